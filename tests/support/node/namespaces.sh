# The first process of the node's namespaces: lays out what is private to them, then waits.
#
#   sh -c SCRIPT namespaces CGROUP STANDIN UP ADDRESS...
#
# CGROUP is the node's group below the root of every hierarchy, STANDIN waits in the end, UP is made when all is there.
set -eu
cgroup=$1 standin=$2 up=$3
shift 3

# The node's addresses, and a way to everything else: nothing here leads out.
ip link set lo up
ip link add node0 type bridge
for address in "$@"; do
  case $address in
    # Nobody else is there to have it.
    *:*) ip -6 addr add "$address" dev node0 nodad ;;
    *) ip addr add "$address" dev node0 ;;
  esac
done
ip link set node0 up
ip route add default dev node0

# Sockets of containerd, state of containers, addresses of pods.
mount -t tmpfs tmpfs /run

# The kubelet wants these values, of the whole machine, and writes those that differ. Here it finds what it wants.
mkdir /run/sysctl
shadow() {
  [ -e "/proc/sys/$1" ] || return 0
  file=/run/sysctl/$(echo "$1" | tr / .)
  echo "$2" >"$file"
  mount --bind "$file" "/proc/sys/$1"
}
shadow vm/overcommit_memory 1
shadow vm/panic_on_oom 0
shadow kernel/panic 10
shadow kernel/panic_on_oops 1
shadow kernel/keys/root_maxkeys 1000000
shadow kernel/keys/root_maxbytes 25000000

root=/sys/fs/cgroup
if [ -e $root/cgroup.controllers ]; then
  mkdir "$root/$cgroup"
  for controller in cpu cpuset memory pids; do
    grep -qw $controller $root/cgroup.subtree_control || echo "+$controller" >$root/cgroup.subtree_control
    echo "+$controller" >"$root/$cgroup/cgroup.subtree_control"
  done
else
  for hierarchy in "$root"/*/; do
    mkdir -p "$hierarchy$cgroup"
  done
  # A new group of cpuset has neither processors nor memory, and takes no process.
  for file in cpuset.cpus cpuset.mems; do
    cat "$root/cpuset/$file" >"$root/cpuset/$cgroup/$file"
  done
fi

touch "$up"
exec "$standin" pause
