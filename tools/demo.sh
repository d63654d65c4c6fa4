#!/usr/bin/env bash
# From a clean clone to the demo: installs what is missing, builds, runs `membrain demo`.
# Arguments are the demo's own: tools/demo.sh --help. Safe to repeat.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

"$root/tools/setup.sh" --build
echo "demo: building (minutes the first time, seconds later)"
quiet=()
[[ -t 1 ]] || quiet=(-- --quiet)
(
  cd "$root"
  launcher=()
  command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  cmake --preset release "${launcher[@]}" >/dev/null
  cmake --build --preset release --target membrain membrain_native "${quiet[@]}"
)
exec "$root/build/release/tools/membrain" demo "$@"
