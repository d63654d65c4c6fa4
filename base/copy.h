// Copies of blocks between shared memory and the caller's, plain or checksummed on the way.
#pragma once

#include <array>
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

/// Shorter runs are copied through the caches, whatever the way: past them they would be parts of
/// lines and little else (by layout_bench: docs/adr/0018).
inline constexpr std::size_t kStreamedRunBytes = 256;

/// One of many runs of a block that goes this way; then `fence_streams` once.
void copy_run(std::byte* to, std::span<const std::byte> from, CopyWay way) noexcept;
void fence_streams() noexcept;

/// Copies run after run and hashes the bytes that it delivered: each chunk is read from the source
/// once, and goes to its destination and into a buffer that stays in the nearest cache, where it is
/// hashed. A source that changes meanwhile is delivered as it was hashed. Short runs are hashed a
/// chunk at a time. `finish` comes before anybody is told of the bytes.
///
/// Cost  A quarter to a third more time than `copy_bytes` of a large block.
class HashedCopy {
 public:
  explicit HashedCopy(CopyWay way) noexcept : way_(way) {}
  HashedCopy(const HashedCopy&) = delete;
  HashedCopy& operator=(const HashedCopy&) = delete;
  void add(std::byte* to, std::span<const std::byte> from) noexcept;
  /// Of all that was copied.
  [[nodiscard]] Checksum finish() noexcept;

 private:
  static constexpr std::size_t kChunkBytes = 4 * 1024;

  void add_short(std::byte* to, std::span<const std::byte> from) noexcept;
  void hash_kept() noexcept;

  static constexpr std::size_t kLineBytes = 64;
  /// The chunk. It is aligned here and not by its type, which GCC 12 ignores in coroutine frames.
  [[nodiscard]] std::span<std::byte, kChunkBytes> chunk() noexcept;

  std::array<std::byte, kChunkBytes + kLineBytes> room_;
  std::size_t kept_ = 0;  ///< bytes in the chunk that are not hashed yet
  CopyWay way_;
  ChecksumStream sum_;
};

}  // namespace membrain
