// Paged blocks from the GPU of one member of a communicator to the GPUs of all.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "membrain/result.h"
#include "transport/cuda/checksum.h"
#include "transport/cuda/chunk_table.h"
#include "transport/cuda/memory.h"
#include "transport/cuda/staging.h"
#include "transport/cuda/stream.h"
#include "transport/nccl/communicator.h"

namespace membrain::nccl {

/// Who may touch the engine's pages: a broadcast, until it is shut out. Any thread.
class PageGate {
 public:
  /// False once it has been shut.
  [[nodiscard]] bool enter() {
    const std::lock_guard lock(mutex_);
    inside_ = !shut_;
    return inside_;
  }
  void leave() {
    const std::lock_guard lock(mutex_);
    inside_ = false;
  }
  /// Nobody enters any more. True when nobody is inside: nothing touches the pages from then on.
  [[nodiscard]] bool shut() {
    const std::lock_guard lock(mutex_);
    shut_ = true;
    return !inside_;
  }

 private:
  std::mutex mutex_;
  bool inside_ = false;
  bool shut_ = false;
};

/// What is to be sent: the same at every member, but for the pieces.
struct BlockSet {
  std::uint32_t root = 0;
  std::uint32_t blocks = 0;
  std::uint32_t chunk_blocks = 0;  ///< that go at once
  std::uint64_t block_bytes = 0;
  /// Appends the pieces of a block here; `block_bytes` in all.
  std::function<void(std::uint32_t block, std::vector<cuda::DevicePiece>& pieces)> pieces_of;
};

/// Chunk by chunk through two buffers on the GPU: while one is on the wire, the other is filled or
/// emptied. The root hashes on its GPU what it sends; every member hashes on its own what came, and
/// keeps only what is the same.
///
/// Ownership  After a failed run the communicator goes first: what hangs on it holds the GPU's
///            stream here.
/// Threads    One; it waits.
class BlockBroadcast {
 public:
  static constexpr std::uint32_t kMaxBlocks = 1024;  ///< of a chunk
  static constexpr std::uint64_t kMinBlockBytes = cuda::DeviceHasher::kMinBytes;

  /// With room for chunks of `chunk_bytes`.
  static Result<std::unique_ptr<BlockBroadcast>> create(std::shared_ptr<const cuda::Device> device,
                                                        std::uint64_t chunk_bytes);

  /// Blocks that make a chunk of `chunk_bytes`, if one takes `pieces` chunks of a ChunkTable; 0 if
  /// none fits, or is too short.
  [[nodiscard]] static std::uint32_t most_blocks(std::uint64_t chunk_bytes,
                                                 std::uint64_t block_bytes,
                                                 std::size_t pieces) noexcept;

  /// By block: it is here and right (the root's own always are, once sent). Ends when patience is
  /// over; the communicator is of no use then. Pages are touched inside `gate` only.
  Result<> run(Communicator& communicator, const BlockSet& set, Patience& patience, PageGate& gate,
               std::vector<bool>& right);

 private:
  /// One of the buffers: what the root's hasher says of every block, then the blocks.
  struct Half {
    cuda::DeviceBuffer bytes;
    cuda::PinnedBuffer said;
    cuda::ChunkTable table;
    cuda::DeviceHasher hasher;
    cuda::Event mark;
  };
  struct Chunk {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
  };

  BlockBroadcast(cuda::Stream pages, cuda::Stream wire) noexcept
      : pages_(std::move(pages)), wire_(std::move(wire)) {}
  static Result<Half> make_half(const std::shared_ptr<const cuda::Device>& device,
                                std::uint64_t chunk_bytes);

  struct Run {
    Communicator& communicator;
    const BlockSet& set;
    Patience& patience;
    PageGate& gate;
    std::vector<bool>& right;

    [[nodiscard]] std::uint32_t chunks() const noexcept {
      return (set.blocks + set.chunk_blocks - 1) / set.chunk_blocks;
    }
    [[nodiscard]] Chunk chunk(std::uint32_t i) const noexcept {
      const std::uint32_t first = i * set.chunk_blocks;
      return {first, std::min(set.chunk_blocks, set.blocks - first)};
    }
  };
  Result<> send_all(Run& run);
  Result<> take_all(Run& run);
  Result<> broadcast(const Run& run, Half& half, Chunk chunk);
  Result<> fill(const Run& run, Half& half, Chunk chunk);
  Result<> take(const Run& run, Half& half, Chunk chunk);
  enum class Way : std::uint8_t { out_of_pages, into_pages };
  Result<> move(const Run& run, Half& half, Chunk chunk, Way way, const std::vector<bool>* only);
  Result<> hash(const Run& run, Half& half, Chunk chunk, cuda::Stream& stream);
  [[nodiscard]] static cuda::Address place(const Half& half, const BlockSet& set, std::uint32_t i);

  std::vector<Half> halves_;
  cuda::Stream pages_;  ///< never behind NCCL: what it queues ends by itself
  cuda::Stream wire_;
  std::vector<cuda::DevicePiece> pieces_;
  std::vector<cuda::DeviceBytes> inputs_;
};

}  // namespace membrain::nccl
