#!/usr/bin/env bash
# Installs what Membrain needs on Debian 12. Safe to repeat: does nothing when everything is there.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tools/setup.sh [--build | --test | --all]
  --build   what building and running needs
  --test    and what tools/test.sh needs
  --all     and what tools/test.sh --all needs: clang 16 and its tools (the default)
TEXT
}

build=(
  g++ cmake ninja-build ccache pkg-config python3 git ca-certificates
  libucx-dev          # the transport
  libspdlog-dev       # logs
  libfmt-dev          # text
  libexpected-dev     # tl::expected
  libxxhash-dev       # XXH3-128
  libssl-dev          # SHA-256, HMAC, random bytes
  libcpp-httplib-dev  # admin HTTP
  nlohmann-json3-dev  # JSON
  libcli11-dev        # the command line
  libtomlplusplus-dev # configuration files
  libgtest-dev        # tests
  libbenchmark-dev    # benchmarks
  libhiredis-dev      # peer_bench: Redis' client
)
test=(
  clang-format-16
  redis-server        # peer_bench starts one of its own to compare with
)
extra=(clang-16 clang-tidy-16 libclang-rt-16-dev mypy)

wanted=("${build[@]}")
case "${1:---all}" in
  --build) ;;
  --test) wanted+=("${test[@]}") ;;
  --all) wanted+=("${test[@]}" "${extra[@]}") ;;
  -h | --help) usage && exit 0 ;;
  *) usage >&2 && exit 2 ;;
esac

missing=()
for package in "${wanted[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $status == installed ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
  echo "setup: all ${#wanted[@]} packages are installed"
  exit 0
fi

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || {
    echo "setup: needs root or sudo to install: ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Runs a command silently; shows what it said when it fails.
quietly() {
  "$@" >"$log" 2>&1 || {
    cat "$log" >&2
    echo "setup: failed: $*" >&2
    exit 1
  }
}

echo "setup: installing ${#missing[@]} packages: ${missing[*]}"
quietly "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update
quietly "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y --no-install-recommends "${missing[@]}"
# Its package starts Redis as a service: one that was not here before does not stay.
if [[ " ${missing[*]} " == *" redis-server "* ]]; then
  if [[ -d /run/systemd/system ]]; then
    quietly "${as_root[@]}" systemctl disable --now redis-server
  else
    quietly "${as_root[@]}" service redis-server stop
    quietly "${as_root[@]}" update-rc.d redis-server disable
  fi
fi
echo "setup: done"
