# Sourced by the scripts beside it: what they have in common, which is that a tool is built once.

tests_tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=$(cd "$tests_tools/../.." && pwd)/.cache/tools

fail() {
  echo "$(basename "$0"): $1" >&2
  exit 1
}

say() {
  echo "$(basename "$0"): $1" >&2
}

# need_go WHAT: WHAT is what Go is needed for.
need_go() {
  command -v go >/dev/null ||
    fail "Go is missing, and the tests need it to build $1: install it from go.dev/doc/install and put its bin directory into PATH"
}

# build_once NAME WHAT SOURCES PROGRAM...: puts the programs into .cache/tools/NAME by the caller's function `build`, which
# gets a directory for its work and writes them into bin/ below it. A stamp of SOURCES (versions, flags, hashes) and Go
# version makes later calls return at once; concurrent calls wait for the first. GOFLAGS of the environment applies.
build_once() {
  local target=$cache/$1 what=$2 stamp programs=("${@:4}")
  stamp="$3 GOFLAGS=${GOFLAGS:-} $(go env GOVERSION GOOS GOARCH | tr '\n' ' ')"

  is_built "$target" "$stamp" "${programs[@]}" && return
  mkdir -p "$cache"
  exec 9>"$target.lock"
  flock 9
  is_built "$target" "$stamp" "${programs[@]}" && return

  say "building $what, once; this takes minutes"
  local work=$target.build began=$SECONDS
  # Not a local of the trap: it runs when the script ends.
  build_work=$work
  trap 'rm -rf "$build_work"' EXIT
  rm -rf "$target" "$work"
  mkdir -p "$work/bin"
  build "$work"
  # The stamp comes last and the directory appears whole: an interrupted build is never taken for a finished one.
  printf '%s\n' "$stamp" >"$work/bin/stamp"
  mv "$work/bin" "$target"
  say "built $what in $((SECONDS - began)) s"
}

# is_built TARGET STAMP PROGRAM...
is_built() {
  local target=$1 stamp=$2 program
  for program in "${@:3}"; do
    [[ -x $target/$program ]] || return 1
  done
  [[ -f $target/stamp && $(<"$target/stamp") == "$stamp" ]]
}
