// Heat: which blocks are looked up most, of late. Pure: time is a parameter.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "server/slab.h"

namespace membrain {

/// Counts lookups of the busiest blocks in a table of fixed size: a block in one of a few places,
/// from which the coldest of them goes. Counts are halved every second. A reference that comes to
/// mean another block takes the count with it for that long, which is as harmless as it is rare.
///
/// Cost     128 KiB, whatever the catalog holds. A touch looks at one cache line.
class Heat {
 public:
  static constexpr std::size_t kSets = 4096;
  static constexpr std::size_t kWays = 4;

  Heat() : sets_(kSets) {}

  /// Notes a lookup. The count of late, with this one.
  std::uint32_t touch(Ref ref, TimePoint now) noexcept;
  [[nodiscard]] std::uint32_t count(Ref ref, TimePoint now) const noexcept;

 private:
  struct Cell {
    Ref ref = kNoRef;
    std::uint16_t count = 0;
    std::uint16_t second = 0;  ///< as of which it is
  };
  using Set = std::array<Cell, kWays>;

  [[nodiscard]] static std::uint16_t second_of(TimePoint now) noexcept;
  [[nodiscard]] static std::size_t set_of(Ref ref) noexcept;
  [[nodiscard]] static std::uint16_t of_late(const Cell& cell, std::uint16_t second) noexcept;

  std::vector<Set> sets_;
};

}  // namespace membrain
