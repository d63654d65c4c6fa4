// The cache that both processes of gpu_bench have on their GPU, and how they send it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "membrain/block.h"
#include "membrain/layout.h"
#include "transport/nccl/block_broadcast.h"

namespace membrain::gpu_bench {

/// What both processes keep on their GPU: a cache of one plane a layer and half, as engines have.
inline constexpr std::uint32_t kBlocks = 32;
inline constexpr std::size_t kPlanes = 64;
inline constexpr std::size_t kPieceBytes = 32 * 1024;
inline constexpr std::size_t kPlaneBytes = kBlocks * kPieceBytes;
inline constexpr std::size_t kBlockBytes = kPlanes * kPieceBytes;
inline constexpr std::size_t kCacheBytes = kBlocks * kBlockBytes;  ///< 64 MiB

/// A cache at `base`, on a GPU or in the host's memory.
[[nodiscard]] RegisteredLayout layout_at(std::uint64_t base);
/// What the neighbour's cache holds, all of it: every word differs from every other.
[[nodiscard]] std::vector<std::byte> content();
/// Under which its blocks are found: where they lie on its GPU, and on its node.
enum class Kept : std::uint32_t { on_gpu, on_node };
[[nodiscard]] std::vector<BlockHash> hashes_of(Kept where);
inline constexpr const char* kModel = "gpu-bench";

/// The cache as members of a broadcast see it, root or not.
[[nodiscard]] nccl::BlockSet blocks_at(cuda::Address base);
/// A communicator of two, the neighbour being the first; waits for the other.
[[nodiscard]] Result<std::unique_ptr<nccl::Communicator>> join_as(
    std::uint32_t rank, const std::shared_ptr<const nccl::Library>& library,
    const std::shared_ptr<const cuda::Device>& device, const nccl::UniqueId& id);
/// A broadcast to or from it.
[[nodiscard]] Result<> broadcast(nccl::BlockBroadcast& through, nccl::Communicator& members,
                                 cuda::Address base);
/// How long anything may take that needs both processes.
inline constexpr std::chrono::seconds kPatience{60};
/// Bytes of the buffers that broadcasts go through.
inline constexpr std::uint64_t kChunkBytes = 4 << 20;

}  // namespace membrain::gpu_bench
