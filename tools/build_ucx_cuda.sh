#!/usr/bin/env bash
# Builds Debian's UCX with CUDA into a prefix of its own: the packaged one knows no GPU memory.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tools/build_ucx_cuda.sh [--prefix FOLDER] [--cuda FOLDER | --no-cuda] [--source FOLDER]
                               [--keep]
  --prefix FOLDER  where it is installed (build/ucx)
  --cuda FOLDER    the CUDA toolkit ($CUDA_HOME, or /usr/local/cuda)
  --no-cuda        builds it without, to see whether this machine can
  --source FOLDER  UCX's source, unpacked, where Debian's cannot be fetched: it is copied
  --keep           leaves the sources and objects beside the prefix
Afterwards:
  cmake --preset release -DMEMBRAIN_UCX_PREFIX=FOLDER
Safe to repeat: does nothing if the prefix has a UCX of that kind. The package stays as it is.
TEXT
}

cd "$(dirname "$0")/.."
prefix=$PWD/build/ucx
cuda=${CUDA_HOME:-/usr/local/cuda}
source=
keep=no
while (($#)); do
  case $1 in
    --prefix) prefix=$(realpath -m "${2:?"--prefix needs a folder"}") && shift ;;
    --cuda) cuda=${2:?"--cuda needs a folder"} && shift ;;
    --no-cuda) cuda= ;;
    --source) source=$(realpath -m "${2:?"--source needs a folder"}") && shift ;;
    --keep) keep=yes ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done
say() { echo "build_ucx_cuda: $*"; }
die() { say "$*" >&2 && exit 1; }

kind=${cuda:+cuda}
kind=${kind:-plain}
if [[ -f $prefix/built-$kind ]]; then
  say "$prefix has it already"
  exit 0
fi
if [[ -n $cuda && ! -f $cuda/include/cuda_runtime.h ]]; then
  die "no CUDA toolkit in $cuda: name its folder with --cuda, or in CUDA_HOME"
fi

if [[ -n $source && ! -d $source/src/ucp ]]; then
  die "no source of UCX in $source: name the folder with its configure or autogen.sh"
fi

work=$prefix.work
mkdir -p "$work/lists/partial" "$prefix"
log=$work/log
: >"$log"
# Runs a function of below: `set -e` is off in it, so each of its lines says when it has failed.
step() {
  local what=$1
  shift
  say "$what ..."
  "$@" >>"$log" 2>&1 || die "that failed; the end of $log:"$'\n'"$(tail -n 15 "$log")"
}

# Where packages come from on this machine, asked for sources.
sources() {
  local file
  for file in /etc/apt/sources.list.d/*.sources; do
    [[ -f $file ]] && sed 's/^Types:.*/Types: deb-src/' "$file" && echo
  done >"$work/src.sources"
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
    sed -n 's/^deb /deb-src /p' >"$work/src.list" || true
  [[ -s $work/src.sources ]] && from=$work/src.sources || from=$work/src.list
  [[ -s $from ]] || die "no package sources are set up in /etc/apt"
}
apt_source() {
  local options=(-o "Dir::Etc::sourcelist=$from" -o Dir::Etc::sourceparts=-
    -o "Dir::State::lists=$work/lists" -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update || return 1
  (cd "$1" && apt-get "${options[@]}" source ucx)
}
# Beside its place until it is whole: a folder that is there is taken for all of it.
take_source() {
  local fresh=$work/fresh
  rm -rf "$fresh" && mkdir -p "$fresh" || return 1
  if [[ -n $source ]]; then
    cp -a "$source" "$fresh/ucx-given" || return 1
  else
    apt_source "$fresh" || return 1
  fi
  mv "$fresh"/ucx-*/ "$work/" && rm -rf "$fresh"
}

# CUDA 13 images have no NVML to compile against. UCX counts NVLinks with it, and the driver brings
# it: what UCX uses is declared here, after NVIDIA's documentation of it.
nvml_stub() {
  mkdir -p "$work/nvml" || return 1
  [[ -f $cuda/include/nvml.h ]] && return 0
  cat >"$work/nvml/nvml.h" <<'C'
#pragma once
typedef struct nvmlDevice_st* nvmlDevice_t;
typedef enum { NVML_SUCCESS = 0 } nvmlReturn_t;
typedef struct {
  char busIdLegacy[16];
  unsigned domain, bus, device, pciDeviceId, pciSubSystemId;
  char busId[32];
} nvmlPciInfo_t;
typedef struct {
  unsigned fieldId, scopeId;
  long long timestamp, latencyUsec;
  int valueType;
  nvmlReturn_t nvmlReturn;
  union {
    double dVal;
    unsigned uiVal;
    unsigned long ulVal;
    unsigned long long ullVal;
    signed long long sllVal;
  } value;
} nvmlFieldValue_t;
#define NVML_FI_DEV_NVLINK_LINK_COUNT 91
#define NVML_VALUE_TYPE_UNSIGNED_INT 1
#define nvmlInit nvmlInit_v2
#define nvmlDeviceGetHandleByIndex nvmlDeviceGetHandleByIndex_v2
#define nvmlDeviceGetNvLinkRemotePciInfo nvmlDeviceGetNvLinkRemotePciInfo_v2
nvmlReturn_t nvmlInit_v2(void);
nvmlReturn_t nvmlShutdown(void);
const char* nvmlErrorString(nvmlReturn_t);
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned, nvmlDevice_t*);
nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t, int, nvmlFieldValue_t*);
nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t, unsigned, nvmlPciInfo_t*);
C
  local name
  for name in nvmlInit nvmlInit_v2 nvmlShutdown nvmlErrorString nvmlDeviceGetHandleByIndex_v2 \
    nvmlDeviceGetFieldValues nvmlDeviceGetNvLinkRemotePciInfo_v2; do
    echo "int $name(void) { return 1; }"
  done >"$work/nvml/stub.c"
  cc -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 -o "$work/nvml/libnvidia-ml.so" "$work/nvml/stub.c"
}

body_of() { sed -n "/$1,/,/^}/p" "$2"; }
registration_is_guarded() {
  [[ $(body_of uct_cuda_copy_mem_reg "$1") =~ (context|ctx_is)_active ]]
}
# UCX 1.13 page-locks host memory for CUDA wherever it registers some. In a process that uses no
# GPU, as a node is, that makes a GPU's context and locks the whole arena, or fails. Later ones do
# that only where a context is current; memory that is not locked has this handle in 1.13.
guard_registration() {
  local file
  file=$(echo "$work"/ucx-*/src/uct/cuda/cuda_copy/cuda_copy_md.c)
  if registration_is_guarded "$file"; then return 0; fi
  if [[ $(body_of uct_cuda_copy_mem_dereg "$file") == *0xdeadbeef* ]]; then
    sed -i '/uct_cuda_copy_mem_reg,/,/^}/ {
      /result = cuPointerGetAttribute(/i\
    if (!uct_cuda_base_is_context_active()) {\
        *memh_p = (void *)0xdeadbeef;\
        return UCS_OK;\
    }\

    }' "$file" || return 1
  fi
  if ! registration_is_guarded "$file"; then
    say "uct_cuda_copy_mem_reg in $file is not as in UCX 1.13.1, and would page-lock nodes' arenas:"
    say "make it leave memory alone where no CUDA context is current, and run this again"
    return 1
  fi
}

configure() {
  cd "$work"/ucx-*/ || return 1
  [[ -x configure ]] || ./autogen.sh || return 1
  local options=(--prefix="$prefix" --enable-mt --with-verbs --with-rdmacm --disable-numa
    --without-java --without-go --disable-doxygen-doc --disable-static)
  if [[ -n $cuda ]]; then
    options+=("--with-cuda=$cuda" "CPPFLAGS=-I$work/nvml"
      "LDFLAGS=-L$work/nvml -L$cuda/lib64/stubs")
  fi
  contrib/configure-release "${options[@]}"
}
build() {
  cd "$work"/ucx-*/ || return 1
  local folder
  # Not test/: one of its CUDA tests does not compile with CUDA 13.
  for folder in src/ucm src/ucs src/uct src/ucp; do
    make -C "$folder" -j"$(nproc)" install || return 1
  done
  make install-pkgconfigDATA || return 1
  local file
  for file in lib/libucp.so lib/pkgconfig/ucx.pc; do
    [[ -e $prefix/$file ]] || { say "make has installed no $prefix/$file" && return 1; }
  done
}

needed=(libibverbs-dev librdmacm-dev)
given=$(compgen -G "$work/ucx-*/" | head -n 1 || true)
given=${given:-$source}
if [[ -z $given ]]; then needed+=(dpkg-dev); fi
if [[ -z $given || ! -x $given/configure ]]; then needed+=(autoconf automake libtool); fi
lacking=()
for package in "${needed[@]}"; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
    lacking+=("$package")
done
if ((${#lacking[@]})); then
  as_root=()
  if (($(id -u) != 0)); then
    command -v sudo >/dev/null || die "needs root or sudo to install: ${lacking[*]}"
    as_root=(sudo)
  fi
  compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null ||
    step "fetching the lists of packages" "${as_root[@]}" apt-get update
  step "installing ${lacking[*]}" "${as_root[@]}" apt-get install -y --no-install-recommends \
    "${lacking[@]}"
fi
if [[ ! -d $(echo "$work"/ucx-*/) ]]; then
  [[ -n $source ]] || sources
  step "fetching ${source:-"Debian's source of UCX"}" take_source
fi
if [[ -n $cuda ]]; then
  step "keeping it from page-locking what no GPU uses" guard_registration
  step "looking for NVML" nvml_stub
fi
step "configuring" configure
step "building (two minutes on two cores)" build
if [[ -n $cuda ]]; then
  [[ -n $(find "$prefix/lib/ucx" -name 'libuct_cuda*' 2>/dev/null) ]] ||
    die "it was built without its CUDA module; see $log"
  # By the name that programs ask for: 11.0 for every CUDA 11, the version alone since.
  cp -L "$cuda"/lib64/libcudart.so.{??,11.0} "$prefix/lib/" 2>/dev/null || true
fi
touch "$prefix/built-$kind"
[[ $keep == yes ]] || rm -rf "$work"
say "done: $prefix"
say "now: cmake --preset release -DMEMBRAIN_UCX_PREFIX=$prefix"
