#!/usr/bin/env bash
# What two machines with a wire between them run: the second serves, the first tests.
#   two_machines.sh BINARIES suite    the transport's tests of two processes, over RDMA
#   two_machines.sh BINARIES faults   what networks and hosts do to connections; ends one's power
#   two_machines.sh BINARIES cluster  a server with a node, and engines that check every byte
# Verdicts of GoogleTest go to $OUT/*.json.
set -eu
binaries=$1
part=$2
case $part in
  suite) program=$binaries/tests/ucx/ucx_process_test filter='*/rdma*' ;;
  faults) program=$binaries/tests/rdma/rdma_faults_test filter='*' ;;
  cluster) program=$binaries/tools/membrain ;;
esac

listening() { until ss -ltn | grep -q "$1"; do sleep 0.1; done; }

if [[ $part == cluster ]]; then
  export MEMBRAIN_SECRET='a secret of the tests'
  # Nothing but RDMA carries messages and blocks; first contact is TCP.
  export UCX_TLS=rc,ud:aux,self UCX_NET_DEVICES=$MEMBRAIN_TEST_RDMA
  unset MEMBRAIN_TEST_RDMA # the program would take it for an option
  if [[ $NODE == 1 ]]; then
    "$program" server --listen "$OWN_IP:9201" --no-admin --with-node 64MiB --one-sided-reads \
      --node-listen "$OWN_IP:0" --temporary &
    listening :9201
    barrier serving
    barrier done
    kill %1
    wait %1
  else
    barrier serving
    for ((i = 0; i < 20; i++)); do
      blocks=$((i % 5)),$((i % 5 + 10)),$((i % 5 + 20)),$((i % 5 + 30))
      printf '{"timestamp": %d, "input_length": 2048, "output_length": 1, "hash_ids": [%s]}\n' \
        "$i" "$blocks"
    done >"$OUT/trace.jsonl"
    status=0
    "$program" replay --trace "$OUT/trace.jsonl" --server "$PEER_IP:9201" --instances 2 \
      --one-sided-reads --block-bytes 256KiB --in-order --json >"$OUT/replay.json" || status=$?
    cat "$OUT/replay.json"
    barrier done
    exit $status
  fi
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
