// Copies of blocks between shared memory and the caller's, plain or checksummed on the way.
#pragma once

#include <cstddef>
#include <span>

#include "base/checksum.h"
#include "base/ids.h"

namespace membrain {

/// From here on a copy writes past the caches, if the processor can: blocks come in batches that no
/// cache has room for, and a store that misses would first fetch the line that it replaces.
inline constexpr std::size_t kStreamedCopyBytes = 64 * 1024;

/// How a copy writes. `streamed` bypasses the caches (AVX-512 or AVX2, picked at run time; a plain
/// copy elsewhere).
enum class CopyWay : unsigned char { cached, streamed };

/// The way for a block of so many bytes.
[[nodiscard]] constexpr CopyWay copy_way(std::size_t block_bytes) noexcept {
  return block_bytes >= kStreamedCopyBytes ? CopyWay::streamed : CopyWay::cached;
}

/// Copies `from` to `to`; they do not overlap. What it wrote is visible to whoever is told
/// afterwards by any of the usual means: streamed stores are fenced.
void copy_bytes(std::byte* to, std::span<const std::byte> from, CopyWay way) noexcept;

/// `copy_bytes` past the caches but for its fence: for many runs, then `fence_streams` once.
void stream_run(std::byte* to, std::span<const std::byte> from) noexcept;
void fence_streams() noexcept;

/// Copies run after run and hashes the bytes that it delivered: each chunk is read from the source
/// once, and goes to its destination and into a buffer that stays in the nearest cache, where it is
/// hashed. A source that changes meanwhile is delivered as it was hashed.
///
/// Cost  A quarter to a third more time than `copy_bytes` of a large block.
class HashedCopy {
 public:
  explicit HashedCopy(CopyWay way) noexcept : way_(way) {}
  void add(std::byte* to, std::span<const std::byte> from) noexcept;
  /// Of all that was copied.
  [[nodiscard]] Checksum finish() const noexcept { return sum_.finish(); }

 private:
  static constexpr std::size_t kChunkBytes = 4 * 1024;
  CopyWay way_;
  ChecksumStream sum_;
};

}  // namespace membrain
