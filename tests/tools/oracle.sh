#!/usr/bin/env bash
# Builds from the Go module in oracle/, into .cache/tools/oracle/ of the repository: the oracle, with the validators of
# Kubernetes, prometheus-operator's generator and Prometheus' discovery and relabeling in it; and prometheus-operator.
#
#   tests/tools/oracle.sh
#
# The versions are those of oracle/go.mod.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/build.sh"

need_go "the oracle and prometheus-operator"

module=$tests_tools/oracle
operator=github.com/prometheus-operator/prometheus-operator
version=$(sed -n "s|^[[:space:]]$operator v\([0-9.]*\)\$|\1|p" "$module/go.mod")
[[ -n $version ]] || fail "$module/go.mod: want one requirement of $operator vVERSION"
# Without the stamped version, prometheus-operator would not know its own.
flags=(-mod=readonly -trimpath -buildvcs=false -ldflags "-s -w -X github.com/prometheus/common/version.Version=$version")
# A static binary, and no go.work of a parent has a say.
export CGO_ENABLED=0 GOWORK=off

build() {
  go -C "$module" build "${flags[@]}" -o "$1/bin/oracle" . &&
    go -C "$module" build "${flags[@]}" -o "$1/bin/prometheus-operator" "$operator/cmd/operator" ||
    fail "the oracle or prometheus-operator cannot be built: the lines above say why"
}

sources=$(cd "$module" && sha256sum go.mod go.sum ./*.go ./*.s | sha256sum)
build_once oracle "the oracle and prometheus-operator $version" "${sources%% *} ${flags[*]}" oracle prometheus-operator
