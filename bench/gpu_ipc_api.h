// The part of NVIDIA's driver interface by which processes share a GPU's memory; beside
// transport/cuda/api.h, as only a benchmark uses it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "transport/cuda/api.h"

namespace membrain::cuda {

/// CUipcMemHandle: what another process opens an allocation by. Passed by value.
struct IpcHandle {
  static constexpr std::size_t kBytes = 64;
  std::array<char, kBytes> bytes{};
};

/// The driver's functions for it, by their names there.
struct IpcApi {
  Status (*handle)(IpcHandle* handle, Address memory);
  Status (*open)(Address* memory, IpcHandle handle, std::uint32_t flags);
  Status (*close)(Address memory);
};

inline constexpr std::uint32_t kIpcLazyPeerAccess = 1;  ///< CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS

}  // namespace membrain::cuda
