#!/usr/bin/env bash
# Makes a machine with Rust and Go ready for `make test`: the shells that the supervision loop has to run under, what a real
# node runs on (for root, unless E2E is 0), the real Prometheus, the oracle and Kubernetes. Later calls take less than a
# second.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/build.sh"

need_go "Prometheus, Kubernetes and the oracle"

# Commands, each with the Debian package that it comes in.
needed=(busybox=busybox dash=dash)
# A real node needs root in any case, so others are not told to install its parts.
if [[ ${E2E:-} != 0 && $(id -u) == 0 ]]; then
  needed+=(containerd=containerd runc=runc ip=iproute2 /usr/lib/cni/ptp=containernetworking-plugins)
fi
missing=()
for need in "${needed[@]}"; do
  # Programs of root may be outside of PATH.
  PATH=$PATH:/usr/sbin:/sbin command -v "${need%=*}" >/dev/null || missing+=("${need#*=}")
done
if ((${#missing[@]})); then
  [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null ||
    fail "the tests need ${missing[*]}: install the Debian packages of these names, for example with sudo apt-get install ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

mapfile -t versions <"$tests_tools/prometheus.versions"
for version in "${versions[@]}"; do
  "$tests_tools/prometheus.sh" "$version"
done
"$tests_tools/oracle.sh"
"$tests_tools/kubernetes.sh"
"$tests_tools/node.sh"
