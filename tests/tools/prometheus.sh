#!/usr/bin/env bash
# Builds slim prometheus and promtool from their Go module into .cache/tools/prometheus-vVERSION/ of the repository.
#
#   tests/tools/prometheus.sh [VERSION]     VERSION: 3.MINOR.PATCH, 3.11 or newer, default 3.13.5
#
# Slim means: only static, file and HTTP discovery, no web pages. A stamp of version, flags and Go version makes later
# calls return at once; concurrent calls wait for the first. GOFLAGS of the environment applies.
set -euo pipefail

fail() {
  echo "prometheus.sh: $1" >&2
  exit 1
}

version=${1:-3.13.5}
# The tag remove_all_sd came with 3.11; without it, one dependency of nomad's discovery cannot be had as a module.
[[ $version =~ ^3\.(1[1-9]|[2-9][0-9])\.([0-9]+)$ ]] || fail "\"$version\" is not a version such as 3.13.5 (3.11 or newer)"
# Release 3.MINOR.PATCH is the module version v0.3MINOR.PATCH, MINOR in two digits.
module_version=v0.3${BASH_REMATCH[1]}.${BASH_REMATCH[2]}

command -v go >/dev/null ||
  fail "Go is missing, and the tests need it to build Prometheus $version: install it from go.dev/doc/install and put its bin directory into PATH"

# Without the stamped version, --version and prometheus_build_info would be empty.
stamped=github.com/prometheus/common/version
ldflags="-s -w -X $stamped.Version=$version -X $stamped.Revision=$module_version -X $stamped.Branch=module"
flags=(-trimpath -tags netgo,remove_all_sd -ldflags "$ldflags")

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.cache/tools
target=$tools/prometheus-v$version
stamp="$version ${flags[*]} GOFLAGS=${GOFLAGS:-} $(go env GOVERSION GOOS GOARCH | tr '\n' ' ')"

built() {
  [[ -x $target/prometheus && -x $target/promtool && -f $target/stamp && $(<"$target/stamp") == "$stamp" ]]
}

built && exit 0
mkdir -p "$tools"
exec 9>"$target.lock"
flock 9
built && exit 0

echo "prometheus.sh: building prometheus and promtool $version, once; this takes minutes" >&2
work=$target.build
trap 'rm -rf "$work"' EXIT
rm -rf "$target" "$work"
mkdir -p "$work/bin"

# From a directory outside any module, so that no go.mod or go.work of a parent has a say.
download=$(cd "$work" && GOWORK=off GO111MODULE=on go mod download -json "github.com/prometheus/prometheus@$module_version") ||
  fail "the module of Prometheus $version cannot be downloaded: $download"
source=$(sed -n 's/^[[:space:]]*"Dir": "\(.*\)",\{0,1\}$/\1/p' <<<"$download")

# The module cache is read-only, and the build has to complete go.sum.
cp -R "$source" "$work/source"
chmod -R u+w "$work/source"
# The module ships a go.work that names directories which are not in it.
(cd "$work/source" && GOWORK=off go build -mod=mod "${flags[@]}" -o "$work/bin/" ./cmd/prometheus ./cmd/promtool)
# The stamp comes last and the directory appears whole: an interrupted build is never taken for a finished one.
printf '%s\n' "$stamp" >"$work/bin/stamp"
mv "$work/bin" "$target"
