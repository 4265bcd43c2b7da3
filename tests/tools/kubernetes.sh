#!/usr/bin/env bash
# Builds the cluster that the tests run into .cache/tools/kubernetes-vVERSION/ of the repository: etcd, kube-apiserver,
# kube-controller-manager, kube-scheduler, kubelet and kubectl, from the Go module in kubernetes/.
#
#   tests/tools/kubernetes.sh
#
# The versions are those of kubernetes/go.mod. A stamp of that module, flags and Go version makes later calls return at
# once; concurrent calls wait for the first. GOFLAGS of the environment applies.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/build.sh"

module=$tests_tools/kubernetes
version=$(sed -n 's|^[[:space:]]k8s\.io/kubernetes \(v[0-9.]*\).*$|\1|p' "$module/go.mod")
[[ $version =~ ^v1\.([0-9]+)\.[0-9]+$ ]] ||
  fail "$module/go.mod: want one requirement of k8s.io/kubernetes v1.MINOR.PATCH, found \"$version\""
minor=${BASH_REMATCH[1]}
need_go "Kubernetes $version"

# Without the stamped version, servers and clients would call themselves v0.0.0-master, and kubectl would warn about it.
stamped=k8s.io/component-base/version
ldflags="-s -w -X $stamped.gitVersion=$version -X $stamped.gitMajor=1 -X $stamped.gitMinor=$minor"
ldflags+=" -X $stamped.gitTreeState=clean -X $stamped.gitCommit=unknown -X $stamped.buildDate=1970-01-01T00:00:00Z"
flags=(-mod=readonly -trimpath -buildvcs=false -ldflags "$ldflags")
binaries=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl)
# Static binaries, and no go.work of a parent has a say.
export CGO_ENABLED=0 GOWORK=off

build() {
  local binary package began
  for binary in "${binaries[@]}"; do
    case $binary in
      etcd) package=go.etcd.io/etcd/server/v3 ;;
      *) package=k8s.io/kubernetes/cmd/$binary ;;
    esac
    began=$SECONDS
    go -C "$module" build "${flags[@]}" -o "$1/bin/$binary" "$package" ||
      fail "$binary $version cannot be built: the lines above say why"
    say "$binary after $((SECONDS - began)) s"
  done
}

sources=$(cat "$module/go.mod" "$module/go.sum" | sha256sum)
build_once "kubernetes-$version" "${binaries[*]} $version" "${sources%% *} ${binaries[*]} ${flags[*]}" "${binaries[@]}"
