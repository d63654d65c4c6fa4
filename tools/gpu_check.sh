#!/usr/bin/env bash
# On a machine with a GPU: builds, tests and measures what Membrain does with it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage() {
  cat <<'TEXT'
usage: tools/gpu_check.sh [--driver LIBRARY] [--no-setup] [--programs FOLDER] [--bundle FOLDER]
  --driver LIBRARY   another library than libcuda.so.1
  --no-setup         does not look for missing packages
  --programs FOLDER  takes what was built in that build folder before, and builds nothing
  --bundle FOLDER    runs nothing, but puts there what the check needs: carried to a machine of this
                     kind with a driver and no compiler, FOLDER/gpu_check.sh is the check
Ends with a table: what was measured, the plain copy beside it, and whether the target holds.
The status is 0 if the tests passed, 1 if one failed or the GPU does not work, and 77 where there
is none.
TEXT
}

driver=libcuda.so.1
setup=yes
bundle=
programs=
if [[ -f $here/bundled ]]; then programs=$here; fi
while (($#)); do
  case $1 in
    --driver) driver=${2:?"--driver needs a library"} && shift ;;
    --no-setup) setup=no ;;
    --programs) programs=$(realpath -m "${2:?"--programs needs a folder"}") && shift ;;
    --bundle) bundle=$(realpath -m "${2:?"--bundle needs a folder"}") && shift ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done
say() { echo "gpu_check: $*"; }
die() { say "$*" >&2 && exit 1; }

needed=(bench/gpu_bench tests/cuda/gpu_test tests/client/client_gpu_test tests/nccl/nccl_gpu_test)

build() {
  cd "$here/.."
  if [[ $setup == yes ]]; then tools/setup.sh --test; fi
  local ucx=()
  if [[ -f build/ucx/built-cuda ]]; then
    ucx=("-DMEMBRAIN_UCX_PREFIX=$PWD/build/ucx")
  else
    say "the packaged UCX stages what goes between processes; tools/build_ucx_cuda.sh builds one" \
      "that does not"
  fi
  cmake --preset release "${ucx[@]}" >/dev/null
  cmake --build --preset release --target "${needed[@]##*/}" -- --quiet
  programs=$PWD/build/release
}

# ---- a bundle

# What a program or library loads at its start, but for the C library, which fits the machine's own
# loader, and what comes with its driver.
libraries_of() {
  local passed_over='^lib(c|m|dl|rt|pthread|resolv|anl|cuda|nvidia-ml)\.so'
  ldd "$@" | awk '$2 == "=>" { print $1, ($3 == "not" ? "none" : $3) }' | sort -u |
    grep -vE "$passed_over" || true
}
take_libraries() {
  local name path
  while read -r name path; do
    [[ $path != none ]] || die "$name is not on this machine: nothing was bundled that needs it"
    cp -L "$path" "$bundle/lib/$name"
  done < <(libraries_of "$@")
}
make_bundle() {
  local name ucs modules
  mkdir -p "$bundle/lib/ucx"
  for name in "${needed[@]}"; do
    mkdir -p "$bundle/${name%/*}"
    strip -o "$bundle/$name" "$programs/$name"
  done
  take_libraries "${needed[@]/#/$programs/}"
  ucs=$(libraries_of "$programs/bench/gpu_bench" | awk '$1 ~ /^libucs\.so/ { print $2 }')
  modules=$(dirname "$(realpath "$ucs")")/ucx
  cp -L "$modules"/*.so* "$bundle/lib/ucx/"
  take_libraries "$modules"/*.so*
  cp "$here/gpu_check.sh" "$here/gpu_table.py" "$bundle/"
  touch "$bundle/bundled"
  say "done: $bundle ($(du -sh "$bundle" | cut -f1)); there: $(basename "$bundle")/gpu_check.sh"
}

if [[ -z $programs ]]; then build; fi
for name in "${needed[@]}"; do
  [[ -x $programs/$name ]] || die "$programs has no $name: name a folder that was built whole"
done
if [[ -n $bundle ]]; then
  make_bundle
  exit 0
fi

# ---- where things are

# NCCL: of this machine, of a CUDA toolkit, or of a Python package.
nccl_folder() {
  ldconfig -p 2>/dev/null | grep -q 'libnccl\.so\.2' && return 0
  local folder
  for folder in ${CUDA_HOME:+"$CUDA_HOME"/lib64} \
    $(python3 -c 'import sys; print(*(f"{one}/nvidia/nccl/lib" for one in sys.path if one))' \
      2>/dev/null) /usr/local/cuda/lib64; do
    if [[ -e $folder/libnccl.so.2 ]]; then echo "$folder" && return 0; fi
  done
}
with=(env -u MEMBRAIN_TEST_CUDA)
folders=${LD_LIBRARY_PATH:-}
nccl=$(nccl_folder)
if [[ -n $nccl ]]; then folders=${folders:+$folders:}$nccl; fi
if [[ -d $programs/lib/ucx ]]; then
  folders=$programs/lib${folders:+:$folders}
  with+=("UCX_MODULE_DIR=$programs/lib/ucx")
fi
if [[ -n $folders ]]; then with+=("LD_LIBRARY_PATH=$folders"); fi
results=$programs
[[ -w $results ]] || results=$(mktemp -d)

# ---- the check

tested=("${with[@]}" "MEMBRAIN_TEST_CUDA=$driver")
bench=("${with[@]}" "$programs/bench/gpu_bench" "--driver=$driver")
code=0
reason=$("${bench[@]}" --benchmark_list_tests 2>&1 >/dev/null) || code=$?
if ((code == 77)); then
  say "SKIPPED: ${reason#gpu_bench: }"
  exit 77
elif ((code)); then
  die "FAILED: the GPU cannot be used: ${reason#gpu_bench: }"
fi

status=0
# What it says on the way is kept, and shown if it fails: warnings are what these tests provoke.
quietly() {
  local name=$1 log=$results/$1.log code=0
  shift
  "$@" >"$log" 2>&1 || code=$?
  ((code)) || return 0
  tail -n 40 "$log" >&2
  say "FAILED: $name ended with $code; all that it said is in $log" >&2
  status=1
}
"${tested[@]}" "$programs/tests/cuda/gpu_test" --gtest_brief=1 || status=1
if [[ $driver == libcuda.so.1 ]]; then  # a client takes no other
  quietly client_gpu_test "${tested[@]}" "$programs/tests/client/client_gpu_test" --gtest_brief=1
  "${with[@]}" "$programs/tests/nccl/nccl_gpu_test" --gtest_brief=1 || status=1
fi
sanitizer=$(PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin:/usr/local/cuda/bin
  command -v compute-sanitizer || true)
if [[ $driver != libcuda.so.1 ]]; then
  say "compute-sanitizer looks at NVIDIA's driver alone"
elif [[ -n $sanitizer ]]; then
  # The kernels alone, and as clients use them: on pages, in slots, at every size. Calls that fail
  # are no errors of theirs: a test asks for a GPU that is not there.
  for program in cuda/gpu_test client/client_gpu_test; do
    "${tested[@]}" "$sanitizer" --error-exitcode 1 --report-api-errors no \
      "$programs/tests/$program" --gtest_brief=1 || status=1
  done
else
  say "no compute-sanitizer here: memory accesses of the kernels are not checked"
fi
measured=$results/gpu_bench.json
rm -f "$measured"
before=$status
status=0
quietly gpu_bench "${bench[@]}" --benchmark_repetitions=5 --benchmark_report_aggregates_only=true \
  --benchmark_enable_random_interleaving=true --benchmark_out_format=json \
  "--benchmark_out=$measured"
if ((status == 0)); then python3 "$here/gpu_table.py" "$measured" || status=1; fi
exit $((before | status))
