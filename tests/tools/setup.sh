#!/usr/bin/env bash
# Makes a machine with Rust and Go ready for `make test`: the shells that the supervision loop has to run under, the real
# Prometheus, the oracle and a Kubernetes control plane. Later calls take less than a second.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/build.sh"

need_go "Prometheus, Kubernetes and the oracle"

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

while read -r version; do
  "$tests_tools/prometheus.sh" "$version"
done <"$tests_tools/prometheus.versions"
"$tests_tools/oracle.sh"
"$tests_tools/kubernetes.sh"
