// Many runs of bytes copied by one kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "transport/cuda/memory.h"
#include "transport/cuda/stream.h"

namespace membrain::cuda {

/// A table of what a kernel is to copy on a device, and its launch. Filled again only when the
/// launch before has come through.
///
/// Threads  One at a time.
class ChunkTable {
 public:
  static constexpr std::size_t kMaxChunks = 16384;
  /// Of a run of `bytes`.
  [[nodiscard]] static std::size_t chunks_of(std::uint64_t bytes) noexcept;
  static Result<ChunkTable> create(std::shared_ptr<const Device> device);

  void clear() noexcept { count_ = 0; }
  /// A run to copy, between addresses that the device reaches; both sides are best aligned to 16.
  /// False if it does not fit any more: nothing of it was added then.
  [[nodiscard]] bool add(Address to, Address from, std::uint64_t bytes) noexcept;
  /// Queues the copies.
  Result<> launch(Stream& stream);

 private:
  ChunkTable(PinnedBuffer host, DeviceBuffer device) noexcept
      : host_(std::move(host)), device_(std::move(device)) {}

  PinnedBuffer host_;
  DeviceBuffer device_;
  std::size_t count_ = 0;
};

}  // namespace membrain::cuda
