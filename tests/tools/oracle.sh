#!/usr/bin/env bash
# Builds the oracle from the Go module in oracle/ into .cache/tools/oracle/ of the repository, with the validators of
# Kubernetes, prometheus-operator's generator and Prometheus' discovery and relabeling in it.
#
#   tests/tools/oracle.sh
#
# The versions are those of oracle/go.mod.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/build.sh"

need_go "the oracle"

module=$tests_tools/oracle
flags=(-mod=readonly -trimpath -buildvcs=false -ldflags "-s -w")
# A static binary, and no go.work of a parent has a say.
export CGO_ENABLED=0 GOWORK=off

build() {
  go -C "$module" build "${flags[@]}" -o "$1/bin/oracle" . || fail "the oracle cannot be built: the lines above say why"
}

sources=$(cd "$module" && sha256sum go.mod go.sum ./*.go ./*.s | sha256sum)
build_once oracle "the oracle" "${sources%% *} ${flags[*]}" oracle
