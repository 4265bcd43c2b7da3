#!/usr/bin/env bash
# Builds what runs in the pods of the real node beside promsidecar, from the Go module in node/ into .cache/tools/node/ of
# the repository.
#
#   tests/tools/node.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/build.sh"

need_go "the applications of the real node"

module=$tests_tools/node
flags=(-mod=readonly -trimpath -buildvcs=false -ldflags "-s -w")
# A static binary, and no go.work of a parent has a say.
export CGO_ENABLED=0 GOWORK=off

build() {
  go -C "$module" build "${flags[@]}" -o "$1/bin/standin" . || fail "standin cannot be built: the lines above say why"
}

sources=$(cd "$module" && sha256sum go.mod ./*.go | sha256sum)
build_once node "standin" "${sources%% *} ${flags[*]}" standin
