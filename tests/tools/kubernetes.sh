#!/usr/bin/env bash
# Builds the control plane that the tests run into .cache/tools/kubernetes-vVERSION/ of the repository: etcd,
# kube-apiserver, kube-controller-manager, kube-scheduler and kubectl, from the Go module in kubernetes/.
#
#   tests/tools/kubernetes.sh
#
# The versions are those of kubernetes/go.mod. A stamp of that module, flags and Go version makes later calls return at
# once; concurrent calls wait for the first. GOFLAGS of the environment applies.
set -euo pipefail

fail() {
  echo "kubernetes.sh: $1" >&2
  exit 1
}

module=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/kubernetes
version=$(sed -n 's|^[[:space:]]k8s\.io/kubernetes \(v[0-9.]*\).*$|\1|p' "$module/go.mod")
[[ $version =~ ^v1\.([0-9]+)\.[0-9]+$ ]] ||
  fail "$module/go.mod: want one requirement of k8s.io/kubernetes v1.MINOR.PATCH, found \"$version\""
minor=${BASH_REMATCH[1]}

command -v go >/dev/null ||
  fail "Go is missing, and the tests need it to build Kubernetes $version: install it from go.dev/doc/install and put its bin directory into PATH"

# Without the stamped version, servers and clients would call themselves v0.0.0-master, and kubectl would warn about it.
stamped=k8s.io/component-base/version
ldflags="-s -w -X $stamped.gitVersion=$version -X $stamped.gitMajor=1 -X $stamped.gitMinor=$minor"
ldflags+=" -X $stamped.gitTreeState=clean -X $stamped.gitCommit=unknown -X $stamped.buildDate=1970-01-01T00:00:00Z"
flags=(-mod=readonly -trimpath -buildvcs=false -ldflags "$ldflags")
binaries=(etcd kube-apiserver kube-controller-manager kube-scheduler kubectl)
# Static binaries, and no go.work of a parent has a say.
export CGO_ENABLED=0 GOWORK=off

tools=$(cd "$module/../../.." && pwd)/.cache/tools
target=$tools/kubernetes-$version
sources=$(cat "$module/go.mod" "$module/go.sum" | sha256sum)
stamp="${sources%% *} ${binaries[*]} ${flags[*]} GOFLAGS=${GOFLAGS:-} $(go env GOVERSION GOOS GOARCH | tr '\n' ' ')"

built() {
  local binary
  for binary in "${binaries[@]}"; do
    [[ -x $target/$binary ]] || return 1
  done
  [[ -f $target/stamp && $(<"$target/stamp") == "$stamp" ]]
}

built && exit 0
mkdir -p "$tools"
exec 9>"$target.lock"
flock 9
built && exit 0

work=$target.build
trap 'rm -rf "$work"' EXIT
rm -rf "$target" "$work"
mkdir -p "$work"

echo "kubernetes.sh: building ${binaries[*]} $version, once; this takes minutes" >&2
SECONDS=0
for binary in "${binaries[@]}"; do
  case $binary in
    etcd) package=go.etcd.io/etcd/server/v3 ;;
    *) package=k8s.io/kubernetes/cmd/$binary ;;
  esac
  began=$SECONDS
  go -C "$module" build "${flags[@]}" -o "$work/$binary" "$package" || fail "$binary $version cannot be built: the lines above say why"
  echo "kubernetes.sh: $binary after $((SECONDS - began)) s" >&2
done
# The stamp comes last and the directory appears whole: an interrupted build is never taken for a finished one.
printf '%s\n' "$stamp" >"$work/stamp"
mv "$work" "$target"
echo "kubernetes.sh: built in $SECONDS s" >&2
