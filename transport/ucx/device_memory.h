// Whether UCX moves GPU memory over a connection by itself, and in which way that can be trusted.
#pragma once

#include <filesystem>
#include <string_view>

#include "transport/fabric.h"

namespace membrain {

/// What the UCX of this process can do with GPUs' memory.
struct DeviceSupport {
  bool cuda = false;  ///< it was built with CUDA, and found a GPU
  bool nics = false;  ///< it registers GPU memory with RDMA devices
};

/// True where UCX lets RDMA devices reach GPU memory: 1.13 looks for one file of the peer-memory
/// driver, later ones for another too. `sysfs` is /sys.
[[nodiscard]] bool nics_reach_gpus(const std::filesystem::path& sysfs, unsigned ucx_major,
                                   unsigned ucx_minor);

/// From `ucp_ep_print_info`: only what the *receiver* reads is trusted with device memory. Where it
/// cannot read, UCX 1.13 lets the sender write into the receiver's memory, whatever rendezvous was
/// asked for, and that could land late (docs/adr/0029). Pure.
[[nodiscard]] DevicePayloads device_payloads_of(const DeviceSupport& support,
                                                std::string_view endpoint_info) noexcept;

}  // namespace membrain
