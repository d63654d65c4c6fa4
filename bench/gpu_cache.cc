#include "bench/gpu_cache.h"

#include <array>
#include <cstring>
#include <span>

#include "membrain/client.h"

namespace membrain::gpu_bench {

RegisteredLayout layout_at(std::uint64_t base) {
  Layout layout;
  layout.blocks = kBlocks;
  for (std::size_t plane = 0; plane < kPlanes; ++plane) {
    auto* const at = reinterpret_cast<void*>(base + plane * kPlaneBytes);  // NOLINT: of a GPU
    layout.planes.push_back({at, kPieceBytes, kPieceBytes});
  }
  return Client::register_layout(layout).value();
}

std::vector<std::byte> content() {
  std::vector<std::byte> bytes(kCacheBytes);
  for (std::uint64_t word = 0; word < kCacheBytes / sizeof word; ++word) {
    const std::uint64_t value = (word + 1) * 0x9e3779b97f4a7c15U;  // odd: no two are the same
    std::memcpy(&bytes[word * sizeof word], &value, sizeof value);
  }
  return bytes;
}

std::vector<BlockHash> hashes_of(Kept where) {
  std::vector<BlockHash> hashes;
  for (std::uint32_t block = 0; block < kBlocks; ++block) {
    const std::array<std::uint32_t, 2> name{static_cast<std::uint32_t>(where), block};
    hashes.push_back(BlockHash::from(std::as_bytes(std::span(name))).value());
  }
  return hashes;
}

nccl::BlockSet blocks_at(cuda::Address base) {
  nccl::BlockSet set;
  set.blocks = kBlocks;
  set.block_bytes = kBlockBytes;
  set.chunk_blocks = nccl::BlockBroadcast::most_blocks(kChunkBytes, kBlockBytes, kPlanes);
  set.pieces_of = [base](std::uint32_t block, std::vector<cuda::DevicePiece>& pieces) {
    for (std::uint64_t plane = 0; plane < kPlanes; ++plane) {
      pieces.push_back({base + plane * kPlaneBytes + block * kPieceBytes, kPieceBytes});
    }
  };
  return set;
}

Result<std::unique_ptr<nccl::Communicator>> join_as(
    std::uint32_t rank, const std::shared_ptr<const nccl::Library>& library,
    const std::shared_ptr<const cuda::Device>& device, const nccl::UniqueId& id) {
  const SteadyClock clock;
  nccl::Patience patience(clock, clock.now() + kPatience);
  return nccl::Communicator::create(library, device, id, rank, 2, patience);
}

Result<> broadcast(nccl::BlockBroadcast& through, nccl::Communicator& members, cuda::Address base) {
  const SteadyClock clock;
  nccl::Patience patience(clock, clock.now() + kPatience);
  nccl::PageGate gate;
  std::vector<bool> right;
  const Result<> ran = through.run(members, blocks_at(base), patience, gate, right);
  if (ran && right != std::vector<bool>(kBlocks, true)) {
    return fail(Errc::corrupt, "a block did not come right");
  }
  return ran;
}

}  // namespace membrain::gpu_bench
