// The checksum of blocks on a GPU: XXH3-128, equal to the host's.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/ids.h"
#include "transport/cuda/memory.h"
#include "transport/cuda/stream.h"

namespace membrain::cuda {

/// Contiguous bytes on a device, at an address that is a multiple of 16.
struct DeviceBytes {
  Address address = 0;
  std::uint64_t bytes = 0;
};

/// Hashes what lies on a device, there: two kernels, whatever the number of inputs (kernels.h says
/// how). Its memory is bounded by what it was made for.
///
/// Threads  One at a time.
/// Cost     Every byte is read once; the chain of a block takes about 20 ns a KiB of it besides,
///          side by side for all blocks of a call.
class DeviceHasher {
 public:
  /// Shorter inputs are another algorithm in XXH3, and no block is that short.
  static constexpr std::uint64_t kMinBytes = 241;
  static constexpr std::size_t kMaxInputs = 4096;  ///< of one call

  /// For calls of up to `most_bytes` in all.
  static Result<DeviceHasher> create(std::shared_ptr<const Device> device,
                                     std::uint64_t most_bytes);

  /// Queues the hashing of `inputs` on `stream`. `finish` may be called when the stream has come to
  /// there; the next `start` after that. `invalid_argument` for inputs that are too short, too
  /// many, too much, or badly aligned.
  Result<> start(Stream& stream, std::span<const DeviceBytes> inputs);
  /// The checksums, in the order of the inputs.
  [[nodiscard]] std::vector<Checksum> finish() const;
  /// What the checksums are made of, kStateBytes an input: as good to compare as they are. On the
  /// device for what follows on the stream, and on the host when `finish` may be called.
  static constexpr std::size_t kStateBytes = 64;
  [[nodiscard]] Address states() const noexcept { return sums_.address(); }
  [[nodiscard]] std::span<const std::byte> host_states() const noexcept;

 private:
  DeviceHasher(PinnedBuffer host, DeviceBuffer device, DeviceBuffer sums) noexcept
      : host_(std::move(host)), device_(std::move(device)), sums_(std::move(sums)) {}
  Result<> plan(std::span<const DeviceBytes> inputs, std::uint64_t& most_blocks);

  PinnedBuffer host_;    // constants, the table of inputs, and what came out
  DeviceBuffer device_;  // the same constants and table
  DeviceBuffer sums_;    // results first, then the sums of every block
  std::vector<std::uint64_t> lengths_;
};

/// The end of XXH3-128: from the accumulators of an input of `bytes` bytes (more than 240).
[[nodiscard]] Checksum merge_lanes(std::span<const std::uint64_t, 8> lanes,
                                   std::uint64_t bytes) noexcept;

}  // namespace membrain::cuda
