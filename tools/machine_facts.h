// What `membrain doctor` looks at, as plain values: observed here, judged elsewhere.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "transport/cuda/device.h"
#include "transport/verbs/inventory.h"

namespace membrain {

inline constexpr std::uint64_t kUnlimited = UINT64_MAX;

/// Nothing and -1 stand for what could not be found out.
struct MachineFacts {
  std::string kernel;        ///< e.g. "6.1.0-18-amd64"
  std::string clock_source;  ///< e.g. "tsc"
  int numa_nodes = -1;
  std::optional<bool> numa_balancing;
  std::uint64_t locked_memory_bytes = kUnlimited;    ///< RLIMIT_MEMLOCK
  std::uint64_t open_files = kUnlimited;             ///< RLIMIT_NOFILE
  std::int64_t huge_pages = -1;                      ///< reserved ones of hugetlbfs
  std::string shared_huge_pages;                     ///< of shared memory: "never", "advise", ...
  std::optional<std::uint64_t> shared_memory_bytes;  ///< free in /dev/shm
  std::optional<int> ptrace_scope;                   ///< Yama's; none: no Yama
  bool may_trace = false;                            ///< CAP_SYS_PTRACE
  std::optional<bool> host_pids;                     ///< in the host's own PID namespace

  verbs::Inventory hardware;
  bool may_open_rdma = false;  ///< some /dev/infiniband/uverbs* can be opened

  std::string cuda_reason;       ///< why there is no driver; empty: there is
  cuda::Status cuda_status = 0;  ///< why the driver that there is does not start; 0: not that
  int cuda_version = 0;          ///< 12040 is CUDA 12.4
  std::vector<cuda::DeviceFacts> gpus;
  int nccl_version = 0;     ///< 22203 is 2.22.3; looked for where there are GPUs
  std::string nccl_reason;  ///< why there is none

  std::string ucx_version;
  std::string ucx_reason;                              ///< why UCX cannot be used; empty: it can
  std::vector<std::string> ucx_transports;             ///< "tcp/eth0"
  bool ucx_cuda = false;                               ///< it knows GPU memory
  bool ucx_gpu_direct = false;                         ///< and network cards may reach that
  std::map<std::string, std::string> ucx_environment;  ///< UCX_* that somebody has set
};

/// Looks, within a second; opens UCX and NVIDIA's driver if `libraries`. Call it before UCX is
/// opened otherwise: that sets variables of its own.
[[nodiscard]] MachineFacts observe_machine(bool libraries,
                                           const std::filesystem::path& sysfs = "/sys",
                                           const std::filesystem::path& procfs = "/proc");

}  // namespace membrain
