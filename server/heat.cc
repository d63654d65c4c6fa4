#include "server/heat.h"

#include <algorithm>
#include <limits>

namespace membrain {

std::uint16_t Heat::second_of(TimePoint now) noexcept {
  return static_cast<std::uint16_t>(
      std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count());
}

std::size_t Heat::set_of(Ref ref) noexcept {
  return (ref * 0x9e3779b1U) >> 20U;
}

std::uint16_t Heat::of_late(const Cell& cell, std::uint16_t second) noexcept {
  const auto age = static_cast<std::uint16_t>(second - cell.second);
  return age >= 16 ? std::uint16_t{0} : static_cast<std::uint16_t>(cell.count >> age);
}

std::uint32_t Heat::touch(Ref ref, TimePoint now) noexcept {
  const std::uint16_t second = second_of(now);
  Cell* place = nullptr;
  for (Cell& cell : sets_[set_of(ref)]) {
    cell.count = of_late(cell, second);
    cell.second = second;
    if (cell.ref == ref) {
      place = &cell;
      break;
    }
    if (place == nullptr || cell.count < place->count) place = &cell;
  }
  if (place->ref != ref) *place = {ref, 0, second};
  if (place->count < std::numeric_limits<std::uint16_t>::max()) ++place->count;
  return place->count;
}

std::uint32_t Heat::count(Ref ref, TimePoint now) const noexcept {
  const Set& set = sets_[set_of(ref)];
  const auto found = std::ranges::find(set, ref, &Cell::ref);
  return found == set.end() ? 0 : of_late(*found, second_of(now));
}

}  // namespace membrain
