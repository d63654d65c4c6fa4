#!/usr/bin/env bash
# Fuzzes every decoder for a while; tests/fuzz/run.py does the work.
set -euo pipefail
exec python3 "$(dirname "$0")/../tests/fuzz/run.py" "$@"
