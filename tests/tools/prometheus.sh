#!/usr/bin/env bash
# Builds slim prometheus and promtool from their Go module into .cache/tools/prometheus-vVERSION/ of the repository.
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

need_go "Prometheus $version"
export CGO_ENABLED=0

# Without the stamped version, --version and prometheus_build_info would be empty.
stamped=github.com/prometheus/common/version
ldflags="-s -w -X $stamped.Version=$version -X $stamped.Revision=$module_version -X $stamped.Branch=module"
flags=(-trimpath -tags netgo,remove_all_sd -ldflags "$ldflags")

build() {
  # From a directory outside any module, so that no go.mod or go.work of a parent has a say.
  local download source
  download=$(cd "$1" && GOWORK=off GO111MODULE=on go mod download -json "github.com/prometheus/prometheus@$module_version") ||
    fail "the module of Prometheus $version cannot be downloaded: $download"
  source=$(sed -n 's/^[[:space:]]*"Dir": "\(.*\)",\{0,1\}$/\1/p' <<<"$download")

  # The module cache is read-only. The build has to complete go.sum, and whoever cleans up after an interrupt to delete it.
  cp -R --no-preserve=mode "$source" "$1/source"
  # Which discoveries are compiled in: a choice of tags since 3.10, one list before; minimum.go stays.
  ((minor >= 10)) || rm "$1/source/plugins/plugins.go"
  # The module ships a go.work that names directories which are not in it.
  (cd "$1/source" && GOWORK=off go build -mod=mod "${flags[@]}" -o "$1/bin/" ./cmd/prometheus ./cmd/promtool)
}

build_once "prometheus-v$version" "prometheus and promtool $version" "$version CGO_ENABLED=$CGO_ENABLED ${flags[*]}" prometheus promtool
