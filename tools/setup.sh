#!/usr/bin/env bash
# Installs what Membrain needs on Debian 12. Safe to repeat: does nothing when everything is there.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tools/setup.sh [--build | --test | --all]
  --build   what building and running needs
  --test    and what tools/test.sh needs
  --all     and what tools/test.sh --all needs: clang's tools (the default)
TEXT
}

build=(
  g++ cmake ninja-build ccache pkg-config python3 git ca-certificates
  libucx-dev          # the transport
  libibverbs-dev      # events of RDMA ports
  libspdlog-dev       # logs
  libfmt-dev          # text
  libexpected-dev     # tl::expected
  libxxhash-dev       # XXH3-128
  libssl-dev          # SHA-256, HMAC, random bytes
  libmicrohttpd-dev   # admin HTTP
  nlohmann-json3-dev  # JSON
  libcli11-dev        # the command line
  libtomlplusplus-dev # configuration files
  libgtest-dev        # tests
  libbenchmark-dev    # benchmarks
  libgrpc++-dev protobuf-compiler-grpc libprotobuf-dev protobuf-compiler # etcd's API
  libhiredis-dev      # peer_bench: Redis' client
  pybind11-dev python3-dev libdlpack-dev # the Python package
  python3-numpy       # its users' arrays
)
test=(
  python3-yaml        # reads what deploy/ says
  golang-go golang-github-masterminds-sprig-dev # renders its chart, as helm does
  patch               # bugs that the simulator must find
  clang-format-16
  python3-pytest      # tests of the Python package
  clang-16            # compiles the GPU kernels, and is the second compiler of --all
  etcd-server         # tests of clusters start three members
  iproute2 nftables   # their networks, and what those lose
  libfaketime         # their wall clocks, which jump
  redis-server        # peer_bench starts one of its own to compare with
)
# What the virtual machines of the rdma tests need; without them those are skipped.
machines=(
  qemu-system-x86     # the machine
  busybox-static cpio # its first files
  kmod                # finds the modules of its kernel
  iproute2 procps util-linux # its network and processes
  ibverbs-providers   # Soft-RoCE
)
extra=(
  clang-tidy-16 mypy
  libclang-rt-16-dev  # clang's sanitizers, and libFuzzer for tools/fuzz.sh
)

wanted=("${build[@]}")
optional=("${machines[@]}")
case "${1:---all}" in
  --build) optional=() ;;
  --test) wanted+=("${test[@]}") ;;
  --all) wanted+=("${test[@]}" "${extra[@]}") ;;
  -h | --help) usage && exit 0 ;;
  *) usage >&2 && exit 2 ;;
esac

# Those of its arguments that are not installed.
not_installed() {
  local package status
  for package in "$@"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [[ $status == installed ]] || echo "$package"
  done
}

# Never fails: says what the rdma tests will lack.
prepare_machines() {
  ((${#optional[@]})) || return 0
  local lacking
  mapfile -t lacking < <(not_installed "${optional[@]}")
  if ((${#lacking[@]})); then
    echo "setup: no virtual machines: cannot install ${lacking[*]}; tests that need one are skipped"
    return 0
  fi
  "$(dirname "$0")/../tests/rdma/fetch_kernel.sh" 2>&1 ||
    echo "setup: no kernel for virtual machines; tests that need one are skipped"
}

mapfile -t missing < <(not_installed "${wanted[@]}")
mapfile -t lacking < <(not_installed "${optional[@]}")
if ((${#missing[@]} + ${#lacking[@]} == 0)); then
  echo "setup: all $((${#wanted[@]} + ${#optional[@]})) packages are installed"
  prepare_machines
  exit 0
fi

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || {
    if ((${#missing[@]} == 0)); then
      prepare_machines
      exit 0
    fi
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

install() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "$@"
}

echo "setup: installing $((${#missing[@]} + ${#lacking[@]})) packages: ${missing[*]} ${lacking[*]}"
if ((${#missing[@]})); then
  quietly "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update
  quietly install "${missing[@]}"
fi
if ((${#lacking[@]})); then
  if ((${#missing[@]} == 0)); then
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update >"$log" 2>&1 || true
  fi
  install "${lacking[@]}" >"$log" 2>&1 || tail -n 3 "$log" >&2
fi
# Its package starts Redis as a service: one that was not here before does not stay.
if [[ " ${missing[*]} " == *" redis-server "* ]]; then
  if [[ -d /run/systemd/system ]]; then
    quietly "${as_root[@]}" systemctl disable --now redis-server
  else
    quietly "${as_root[@]}" service redis-server stop
    quietly "${as_root[@]}" update-rc.d redis-server disable
  fi
fi
prepare_machines
echo "setup: done"
