#!/usr/bin/env bash
# Builds slim prometheus and promtool into .cache/tools/prometheus-vVERSION/ of the repository, from the Go module in
# prometheus/VERSION/.
#
#   tests/tools/prometheus.sh VERSION     such as 3.13.5; the tests use those of prometheus.versions
#
# Slim means: only static, file and HTTP discovery, no web pages. Statically linked, as the published images are: with a C
# library the address space of an agent is some 35 MiB larger, and the limit of the loop would be measured against that.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/build.sh"

version=${1:-}
[[ $version =~ ^3\.([0-9]|[1-9][0-9])\.(0|[1-9][0-9]*)$ ]] || fail "\"$version\" is not a version such as 3.13.5"
minor=${BASH_REMATCH[1]}
# Release 3.MINOR.PATCH is the module version v0.3MINOR.PATCH, MINOR in two digits.
module_version=$(printf 'v0.3%02d.%d' "$minor" "${BASH_REMATCH[2]}")
upstream=github.com/prometheus/prometheus
module=$tests_tools/prometheus/$version
grep -Eqs "^[[:space:]]$upstream $module_version( |\$)" "$module/go.mod" ||
  fail "$module/go.mod has to require $upstream $module_version: docs/testing.md says how to add a version"

need_go "Prometheus $version"
# Static binaries, and no go.work of a parent has a say.
export CGO_ENABLED=0 GOWORK=off

# Without the stamped version, --version and prometheus_build_info would be empty.
stamped=github.com/prometheus/common/version
ldflags="-s -w -X $stamped.Version=$version -X $stamped.Revision=$module_version -X $stamped.Branch=module"
flags=(-mod=readonly -trimpath -buildvcs=false -tags netgo,remove_all_sd -ldflags "$ldflags")

build() {
  # Which discoveries are compiled in: a choice of tags since 3.10, one list before; minimum.go stays. The module cache is
  # read-only, so then a copy without the list replaces the module.
  if ((minor < 10)); then
    local source
    source=$(go -C "$module" mod download "$upstream" && go -C "$module" list -mod=readonly -m -f '{{.Dir}}' "$upstream") ||
      fail "the module of Prometheus $version cannot be downloaded: the lines above say why"
    # With its modes, whoever cleans up after an interrupt could not delete it.
    cp -R --no-preserve=mode "$source" "$1/source"
    rm "$1/source/plugins/plugins.go"
    cp "$module/go.mod" "$module/go.sum" "$1"
    go mod edit -replace "$upstream=$1/source" "$1/go.mod"
    flags+=(-modfile "$1/go.mod")
  fi
  go -C "$module" build "${flags[@]}" -o "$1/bin/" "$upstream/cmd/prometheus" "$upstream/cmd/promtool" ||
    fail "Prometheus $version cannot be built: the lines above say why"
}

sources=$(cat "$module/go.mod" "$module/go.sum" | sha256sum)
build_once "prometheus-v$version" "prometheus and promtool $version" "${sources%% *} CGO_ENABLED=$CGO_ENABLED ${flags[*]}" prometheus promtool
