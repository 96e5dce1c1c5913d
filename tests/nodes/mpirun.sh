#!/usr/bin/env bash
# mpirun over virtual nodes on one machine, joined by a link of limited rate: where a transfer takes time of its own, and
# hiding it behind computation can be seen. (On one machine's shared memory a copy is core time, and nothing hides it.)
#
#   bash tests/nodes/mpirun.sh [--nodes N] [--ranks-per-node N] [--rate RATE] -- COMMAND…     (default 2, 1, 1gbit)
#   bash tests/nodes/mpirun.sh --rate 1gbit -- build/cpu/apps/ringbolt bench --what ring
#
# Each node is a network and a host-name namespace; each one's outgoing traffic passes a token bucket of RATE (tc's words:
# 1gbit, 200mbit). Needs root, iproute2 and Open MPI. The namespaces are removed on exit. Exit status: the command's.
set -euo pipefail

nodes=2 ranks=1 rate=1gbit
while [ $# -gt 0 ]; do
  case $1 in
    --nodes) nodes=$2 && shift 2 ;;
    --ranks-per-node) ranks=$2 && shift 2 ;;
    --rate) rate=$2 && shift 2 ;;
    --) shift && break ;;
    *) echo "unknown option $1 (there are --nodes, --ranks-per-node, --rate). Put -- before the command." >&2 && exit 2 ;;
  esac
done
[ $# -gt 0 ] || { echo "no command to run. See the head of $0." >&2 && exit 2; }
[ "$(id -u)" -eq 0 ] || { echo "virtual nodes need root (network namespaces are made). Run it with sudo." >&2 && exit 2; }
for tool in ip tc nsenter unshare mpirun; do
  command -v "$tool" >/dev/null || { echo "$tool is missing (iproute2, util-linux, openmpi-bin). Install it." >&2 && exit 2; }
done

readonly prefix=rb$$
scratch=$(mktemp -d)

cleanup() {
  local node
  for node in hub $(seq "$nodes"); do ip netns del "$prefix$node" 2>/dev/null || true; done
  rm -rf "$scratch"
}
trap cleanup EXIT

# A bridge in a namespace of its own; a node is a namespace with one end of a cable to it.
make_nodes() {
  local i
  ip netns add "${prefix}hub"
  ip -n "${prefix}hub" link set lo up
  ip -n "${prefix}hub" link add br0 type bridge
  ip -n "${prefix}hub" link set br0 up
  for i in $(seq "$nodes"); do
    ip netns add "$prefix$i"
    ip -n "$prefix$i" link set lo up
    ip link add e0 netns "$prefix$i" type veth peer name "p$i" netns "${prefix}hub"
    ip -n "${prefix}hub" link set "p$i" master br0
    ip -n "${prefix}hub" link set "p$i" up
    ip -n "$prefix$i" addr add "10.77.0.$i/24" dev e0
    ip -n "$prefix$i" link set e0 up
    nsenter --net="/run/netns/$prefix$i" tc qdisc replace dev e0 root tbf rate "$rate" burst 256kb latency 400ms
  done
}

# What mpirun calls instead of ssh: agent NODE COMMAND…
make_agent() {
  cat >"$scratch/agent" <<'AGENT'
#!/bin/bash
node=$1
shift
exec nsenter --net="/run/netns/$node" unshare -u bash -c "hostname $node; exec $*"
AGENT
  chmod +x "$scratch/agent"
}

hosts() {
  local i list=""
  for i in $(seq "$nodes"); do list+="${list:+,}$prefix$i:$ranks"; done
  echo "$list"
}

make_nodes
make_agent
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
nsenter --net="/run/netns/${prefix}1" unshare -u bash -c 'hostname "$0"; exec "$@"' "${prefix}1" \
  mpirun -H "$(hosts)" -np $((nodes * ranks)) --mca plm_rsh_agent "$scratch/agent" \
  --mca btl_tcp_if_include e0 --mca oob_tcp_if_include e0 --bind-to none "$@"
