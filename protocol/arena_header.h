// The first page of an arena, for all who map it: docs/arena.md has every byte.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace membrain {

/// The smallest slot, the unit of slot ids, and what every slot size is a multiple of.
inline constexpr std::uint32_t kPageBytes = 4096;

/// Everything but the counters is fixed when the arena is made, and covered by `layout_check`;
/// `magic` is written last.
struct ArenaHeader {
  static constexpr std::uint64_t kMagic = 0x414e455241424d4dull;  ///< "MMBARENA" in memory order
  static constexpr std::uint32_t kVersion = 1;

  std::atomic<std::uint64_t> magic;
  std::uint32_t version;
  std::uint32_t node;
  std::uint64_t capacity_bytes;
  std::uint64_t seals_offset;
  std::uint64_t slots_offset;
  std::uint64_t layout_check;
  std::atomic<std::uint64_t> generations;
  std::atomic<std::uint32_t> incarnation;

  [[nodiscard]] std::uint64_t check_of() const noexcept;
  /// An arena's header, whole. Whether its offsets lie in the file is for the reader to see.
  [[nodiscard]] bool sound() const noexcept;
};
static_assert(sizeof(ArenaHeader) == 64);

}  // namespace membrain
