#!/usr/bin/env bash
# On a machine with a GPU: builds, tests and measures what Membrain does with it.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: tools/gpu_check.sh [--driver LIBRARY] [--no-setup]
  --driver LIBRARY  another library than libcuda.so.1
  --no-setup        does not look for missing packages
Ends with a table: what was measured, the plain copy beside it, and whether the target holds.
The status is 0 if the tests passed, 1 if one failed or the GPU does not work, and 77 where there
is none.
TEXT
}

driver=libcuda.so.1
setup=yes
while (($#)); do
  case $1 in
    --driver) driver=${2:?"--driver needs a library"} && shift ;;
    --no-setup) setup=no ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done

if [[ $setup == yes ]]; then tools/setup.sh --test; fi
ucx=()
if [[ -f build/ucx/built-cuda ]]; then
  ucx=("-DMEMBRAIN_UCX_PREFIX=$PWD/build/ucx")
else
  echo "gpu_check: the packaged UCX stages what goes between processes; tools/build_ucx_cuda.sh" \
    "builds one that does not"
fi
cmake --preset release "${ucx[@]}" >/dev/null
cmake --build --preset release --target gpu_test client_gpu_test nccl_gpu_test gpu_bench -- --quiet

export MEMBRAIN_TEST_CUDA=$driver
bench=(build/release/bench/gpu_bench "--driver=$driver")
code=0
reason=$("${bench[@]}" --benchmark_list_tests 2>&1 >/dev/null) || code=$?
if ((code == 77)); then
  echo "gpu_check: SKIPPED: ${reason#gpu_bench: }"
  exit 77
elif ((code)); then
  echo "gpu_check: FAILED: the GPU cannot be used: ${reason#gpu_bench: }" >&2
  exit 1
fi

status=0
build/release/tests/cuda/gpu_test --gtest_brief=1 || status=1
if [[ $driver == libcuda.so.1 ]]; then  # a client takes no other
  build/release/tests/client/client_gpu_test --gtest_brief=1 2>/dev/null || status=1
  (unset MEMBRAIN_TEST_CUDA && build/release/tests/nccl/nccl_gpu_test --gtest_brief=1) || status=1
fi
if [[ $driver != libcuda.so.1 ]]; then
  echo "gpu_check: compute-sanitizer looks at NVIDIA's driver alone"
elif command -v compute-sanitizer >/dev/null; then
  # The kernels alone, and as clients use them: on pages, in slots, at every size. Calls that fail
  # are no errors of theirs: a test asks for a GPU that is not there.
  for program in cuda/gpu_test client/client_gpu_test; do
    compute-sanitizer --error-exitcode 1 --report-api-errors no "build/release/tests/$program" \
      --gtest_brief=1 || status=1
  done
else
  echo "gpu_check: no compute-sanitizer here: memory accesses of the kernels are not checked"
fi
"${bench[@]}" --benchmark_repetitions=5 --benchmark_report_aggregates_only=true \
  --benchmark_enable_random_interleaving=true --benchmark_out=build/release/gpu_bench.json \
  --benchmark_out_format=json >/dev/null
python3 tools/gpu_table.py build/release/gpu_bench.json
exit "$status"
