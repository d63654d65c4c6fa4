#!/usr/bin/env bash
# What two machines with a wire between them run: the second serves, the first tests.
#   two_machines.sh BINARIES suite    the transport's tests of two processes, over RDMA
#   two_machines.sh BINARIES faults   what networks and hosts do to connections; ends one's power
#   two_machines.sh BINARIES cluster  a server with a node, and engines that check every byte
#   two_machines.sh BINARIES reads    the same while packets are lost, links fall, the power is cut
# Verdicts of GoogleTest go to $OUT/*.json.
set -eu
binaries=$1
part=$2
case $part in
  suite) program=$binaries/tests/ucx/ucx_process_test filter='*/rdma*' ;;
  faults) program=$binaries/tests/rdma/rdma_faults_test filter='*' ;;
  cluster | reads) program=$binaries/tools/membrain ;;
esac

listening() { until ss -ltn | grep -q "$1"; do sleep 0.1; done; }

# A trace over 20 blocks, in hit and miss.
make_trace() {
  for ((i = 0; i < 2000; i++)); do
    blocks=$((i % 5)),$((i % 5 + 10)),$((i % 5 + 20)),$((i % 5 + 30))
    printf '{"timestamp": %d, "input_length": 2048, "output_length": 1, "hash_ids": [%s]}\n' \
      "$i" "$blocks"
  done >"$OUT/trace.jsonl"
}

# Engines play so much of it; what they report goes to $OUT/NAME.json. Other options follow.
#   play NAME REQUESTS [OPTION...]
play() {
  local name=$1 status=0
  "$program" replay --trace "$OUT/trace.jsonl" --requests "$2" --server "$PEER_IP:9201" \
    --instances 2 --one-sided-reads --block-bytes 256KiB --in-order --json "${@:3}" \
    >"$OUT/$name.json" || status=$?
  cat "$OUT/$name.json"
  return $status
}

# What it is like on a bad network: two packets of a hundred are lost on either side.
lose_packets() { tc qdisc add dev wire0 root netem loss 2%; }

if [[ $part == cluster || $part == reads ]]; then
  export MEMBRAIN_SECRET='a secret of the tests'
  # Nothing but RDMA carries messages and blocks; first contact is TCP.
  export UCX_TLS=rc,ud:aux,self UCX_NET_DEVICES=$MEMBRAIN_TEST_RDMA
  unset MEMBRAIN_TEST_RDMA # the program would take it for an option
fi
if [[ $part == cluster || $part == reads ]] && [[ $NODE == 1 ]]; then
  "$program" server --listen "$OWN_IP:9201" --no-admin --with-node 64MiB --one-sided-reads \
    --node-listen "$OWN_IP:0" --temporary &
  listening :9201
  barrier serving
  if [[ $part == reads ]]; then
    barrier clean && lose_packets && barrier lossy
    barrier sound && tc qdisc del dev wire0 root
    barrier cut
    sleep 8 # the engines read by then, also on a busy machine
    echo o >/proc/sysrq-trigger
    sleep 60
  fi
  barrier done
  kill %1
  wait %1
elif [[ $part == cluster ]]; then
  make_trace
  barrier serving
  status=0
  play replay 20 || status=$?
  barrier done
  exit $status
elif [[ $part == reads ]]; then
  make_trace
  barrier serving
  play clean 10
  barrier clean && lose_packets && barrier lossy
  play lossy 40
  barrier sound && tc qdisc del dev wire0 root
  play flaps 300 &
  sleep 3 # they are connected then
  for ((i = 0; i < 3; i++)); do
    sleep 2
    "$CABLE" off
    sleep 0.3
    "$CABLE" on
  done
  wait %1
  barrier cut
  play cut 2000 --timeout 2s || echo "ended with status $?"
elif [[ $NODE == 1 ]]; then
  "$program" --agent="$OWN_IP:7100" &
  listening :7100
  barrier serving
  barrier done
else
  barrier serving
  status=0
  MEMBRAIN_TEST_AGENT=$PEER_IP:7100 "$program" --gtest_filter="$filter" \
    --gtest_output="json:$OUT/$part.json" || status=$?
  [[ $part == faults ]] || barrier done # else nobody is left to come to it
  exit $status
fi
