#!/usr/bin/env bash
# Fetches the kernel of the virtual machine and the modules that it needs, without installing any
# of it. Safe to repeat: does nothing when the folder is filled.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: fetch_kernel.sh [FOLDER]
  FOLDER  gets vmlinuz, modules/NN-NAME.ko in the order in which they are loaded, and version
          (default: $MEMBRAIN_VM_CACHE, or membrain/vm in the user's cache folder)
Needs apt-get with a Debian archive, dpkg and modprobe; takes 80 MB of download, leaves 15 MB.
TEXT
}
case "${1:-}" in -h | --help) usage && exit 0 ;; esac
default=${XDG_CACHE_HOME:-${HOME:-/var/tmp}/.cache}/membrain/vm
folder=${1:-${MEMBRAIN_VM_CACHE:-$default}}
[[ ! -s $folder/version ]] || {
  echo "fetch_kernel: $(<"$folder/version") is in $folder"
  exit 0
}

# What the guest loads: its root over 9p, its wire, Soft-RoCE, and netem to lose packets with. The
# kernels for clouds have none of the last two.
modules=(virtio_pci virtio_rng 9pnet_virtio 9p overlay virtio_net veth crc32_generic
  crc32c_generic libcrc32c ib_uverbs rdma_ucm rdma_rxe sch_netem)

fail() {
  echo "fetch_kernel: $*" >&2
  exit 1
}
PATH=$PATH:/usr/sbin:/sbin
for program in apt-get apt-cache dpkg modprobe depmod; do
  command -v "$program" >/dev/null || fail "no $program here: needs Debian or a relative, and kmod"
done
release=$(apt-cache depends linux-image-amd64 2>/dev/null |
  sed -n 's/^ *Depends: linux-image-\([0-9].*\)/\1/p' | head -n 1)
[[ $release ]] || fail "apt knows no linux-image-amd64: run apt-get update"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
apt-get -qq -o APT::Sandbox::User="$(id -un)" download "linux-image-$release" ||
  fail "cannot download linux-image-$release: no network?"
dpkg -x linux-image-*.deb root
depmod -b root "$release"

mkdir -p ready/modules
cp "root/boot/vmlinuz-$release" ready/vmlinuz
number=100
while read -r module; do
  cp "$module" "ready/modules/$number-${module##*/}"
  number=$((number + 1))
done < <(for module in "${modules[@]}"; do
  modprobe -d root -S "$release" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }')
echo "$release" >ready/version

mkdir -p "$(dirname "$folder")"
rm -rf "$folder"
mv ready "$folder"
echo "fetch_kernel: $release is in $folder now"
