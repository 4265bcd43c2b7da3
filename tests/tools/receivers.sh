#!/usr/bin/env bash
# Builds the receivers that `make receivers` delivers to, each from its Go module in receivers/NAME/, into
# .cache/tools/receiver-NAME/ of the repository.
#
#   tests/tools/receivers.sh
#
# What a module is for is its line `tool`: the program that is built; the versions are those of its go.mod.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/build.sh"

need_go "the receivers"
# Static binaries, and no go.work of a parent has a say.
export CGO_ENABLED=0 GOWORK=off
# Thanos and Cortex take labels of Prometheus for slices, without looking: a binary without the second tag starts, and dies or
# stores nonsense with the first series.
flags=(-mod=readonly -trimpath -buildvcs=false -tags netgo,slicelabels -ldflags "-s -w")

for module in "$tests_tools"/receivers/*/; do
  name=$(basename "$module")
  package=$(sed -n 's/^tool //p' "$module/go.mod")
  [[ -n $package ]] || fail "$module/go.mod: want one line \"tool PACKAGE\""
  build() {
    go -C "$module" build "${flags[@]}" -o "$1/bin/" "$package" ||
      fail "$name cannot be built: the lines above say why"
  }
  sources=$(cat "$module/go.mod" "$module/go.sum" | sha256sum)
  # Each in a shell of its own: what it holds while it builds ends with it.
  (build_once "receiver-$name" "$name" "${sources%% *} CGO_ENABLED=$CGO_ENABLED ${flags[*]}" "$(basename "$package")")
done
