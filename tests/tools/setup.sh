#!/usr/bin/env bash
# Makes a machine with Rust and Go ready for `make test`: the shells that the supervision loop has to run under, the real
# Prometheus and a Kubernetes control plane. Later calls take less than a second.
set -euo pipefail

fail() {
  echo "setup.sh: $1" >&2
  exit 1
}

command -v go >/dev/null ||
  fail "Go is missing, and the tests need it to build Prometheus and Kubernetes: install it from go.dev/doc/install and put its bin directory into PATH"

# On Debian and its kin, each of these commands comes in the package of its name.
missing=()
for command in busybox dash; do
  command -v "$command" >/dev/null || missing+=("$command")
done
if ((${#missing[@]})); then
  [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null ||
    fail "the tests need ${missing[*]}: install the Debian packages of these names, for example with sudo apt-get install ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

tools=$(dirname "${BASH_SOURCE[0]}")
"$tools/prometheus.sh"
"$tools/kubernetes.sh"
