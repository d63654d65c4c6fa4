#!/usr/bin/env bash
# Builds and proves everything that this machine can; the last line says how it went.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
usage: tools/test.sh [--fast | --all] [--no-setup] [LABEL...]
  (nothing)   style, then the dev build and the asan build with their tests
  --fast      style and the dev build only
  --all       also tsan, clang, release, clang-tidy and mypy
  --no-setup  does not look for missing packages
  LABEL       tests to run: unit, sim, ucx, fuzz, cluster, mutants, rdma, gpu (the default is all;
              the long ones among them only with --all, or when their label is named)
The last line is "N passed, N failed, N skipped"; the status is 0 only if something passed and
nothing failed.
TEXT
}

mode=usual
setup=yes
labels=()
for argument in "$@"; do
  case $argument in
    --fast) mode=fast ;;
    --all) mode=all ;;
    --no-setup) setup=no ;;
    -h | --help) usage && exit 0 ;;
    -*) usage >&2 && exit 2 ;;
    *) labels+=("$argument") ;;
  esac
done
left_out=()
if ((${#labels[@]} == 0)); then
  labels=(unit sim ucx fuzz cluster mutants rdma gpu)
  [[ $mode == all ]] || left_out=(-LE '^long$')
fi

jobs=$(nproc)
started=$SECONDS
results=build/results
rm -rf "$results"
mkdir -p "$results"

say() { printf '\n== %4ds  %s\n' $((SECONDS - started)) "$*"; }

# Records a step that is no ctest: `step NAME COMMAND...` passes or fails as one test.
step() {
  local name=$1
  shift
  if "$@"; then
    echo passed >"$results/$name.step"
  else
    echo failed >"$results/$name.step"
  fi
}

configure() {
  local launcher=()
  if command -v ccache >/dev/null; then
    export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
    launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  fi
  cmake --preset "$1" "${launcher[@]}" >/dev/null
}

build() { configure "$1" && cmake --build --preset "$1" -j "$jobs" -- --quiet; }

# Sanitizers stop at the first report; what is not ours to mend is listed in tests/*.supp.
sanitizer_environment() {
  local lsan='' tsan='halt_on_error=1:second_deadlock_stack=1'
  [[ ! -f tests/lsan.supp ]] || lsan="suppressions=$PWD/tests/lsan.supp:print_suppressions=0"
  [[ ! -f tests/tsan.supp ]] || tsan+=":suppressions=$PWD/tests/tsan.supp"
  export LSAN_OPTIONS=$lsan TSAN_OPTIONS=$tsan
  export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
  export UBSAN_OPTIONS=print_stacktrace=1
}

# Which of the labels a preset's tests have: machines, GPUs and clusters run one build, as it is;
# corpora are replayed with and without a sanitizer.
labels_of() {
  local label
  for label in "${labels[@]}"; do
    [[ $label =~ ^(cluster|mutants|rdma|gpu)$ && $1 != dev ]] && continue
    [[ $label == fuzz && $1 != dev && $1 != asan ]] || echo "$label"
  done
}

# Builds a preset and runs its tests; both outcomes are recorded.
prove() {
  local preset=$1 wanted pattern
  mapfile -t wanted < <(labels_of "$preset")
  ((${#wanted[@]})) || return 0
  pattern="^($(IFS='|' && echo "${wanted[*]}"))\$"
  say "$preset: building"
  step "build-$preset" build "$preset"
  [[ $(<"$results/build-$preset.step") == passed ]] || return 0
  say "$preset: testing (${wanted[*]})"
  local runner=()
  # ThreadSanitizer wants addresses where it expects them.
  if [[ $preset == tsan ]] && setarch -R true 2>/dev/null; then runner=(setarch -R); fi
  "${runner[@]}" ctest --test-dir "build/$preset" -L "$pattern" "${left_out[@]}" -j "$jobs" \
    --output-on-failure --no-tests=error --output-junit "$PWD/$results/$preset.xml" \
    >"$results/$preset.log" 2>&1 || true
  # What passed is counted, and what was skipped is summed up at the end: neither is shown.
  grep -vE '^ *(Start +[0-9]+:|[0-9]+/[0-9]+ Test +#.*( Passed|\*\*\*Skipped) +[0-9.]+ sec$)' \
    "$results/$preset.log" || true
}

lint() {
  local sources
  mapfile -t sources < <(git ls-files '*.cc' ':!tests')
  printf '%s\0' "${sources[@]}" |
    xargs -0 -n 1 -P "$jobs" clang-tidy-16 -p build/clang --quiet 2>/dev/null
}

check_types() {
  (cd tests && MYPYPATH=tools:../tools mypy --strict --cache-dir=../build/mypy ./*.py tools/*.py &&
    MYPYPATH=tools:cluster:../python mypy --strict --python-executable /usr/bin/python3 \
      --cache-dir=../build/mypy-c cluster/*.py &&
    MYPYPATH=rdma mypy --strict --cache-dir=../build/mypy rdma/*.py mutants/*.py &&
    MYPYPATH=fuzz mypy --strict --cache-dir=../build/mypy fuzz/*.py deploy/*.py) || return 1
  local python=(mypy --strict --python-executable /usr/bin/python3 --cache-dir="$PWD/build/mypy")
  "${python[@]}" python/membrain && (
    cd python/tests && MYPYPATH=.. "${python[@]}" ./*.py contract/*.py) && (
    cd python/examples/mini_engine && MYPYPATH=../.. "${python[@]}" ./*.py)
}

if [[ $setup == yes ]]; then
  if [[ $mode == all ]]; then tools/setup.sh --all; else tools/setup.sh --test; fi
fi
sanitizer_environment

say "style"
step tidy python3 tests/tidy.py
prove dev
[[ $mode == fast ]] || prove asan
if [[ $mode == all ]]; then
  prove tsan
  prove clang
  prove release
  say "clang-tidy, mypy"
  step clang-tidy lint
  step mypy check_types
fi

say "result"
python3 tests/summarize.py "$results"
