// The part of the slot pool that looks ahead (what to ask the shard for), and its self check.
#include <algorithm>
#include <tuple>
#include <utility>

#include "cache/node/size_classes.h"
#include "cache/node/slab.h"
#include "cache/node/slot_pool.h"

namespace membrain {

namespace {

constexpr std::uint64_t kLowOneIn = 10;  // ask when less than one in ten is free,
constexpr std::uint64_t kAskOneIn = 8;   // for so many that one in eight is
constexpr std::uint32_t kPatience = 4;   // reservations of one slab before another is tried

}  // namespace

/// Slots that a class could cut from the units of no class.
std::uint64_t SlotPool::potential(Class& of) const {
  if (of.potential_version == units_version_) return of.potential;
  const auto size_class = static_cast<std::size_t>(&of - classes_.data());
  of.potential_version = units_version_;
  of.potential = 0;
  std::uint32_t run = 0;
  for (std::uint32_t unit = lowest_free_; unit <= unit_count_; ++unit) {
    const bool free = unit < unit_count_ && slab_of_unit_[unit] == kNone &&
                      !reserved_for_another(unit, size_class);
    if (free) {
      ++run;
      continue;
    }
    const std::uint64_t good_bytes = std::uint64_t{of.good_units} * unit_bytes_;
    const std::uint64_t rest_bytes = std::uint64_t{run % of.good_units} * unit_bytes_;
    of.potential += run / of.good_units * (good_bytes / of.slot_bytes) + rest_bytes / of.slot_bytes;
    run = 0;
  }
  return of.potential;
}

bool SlotPool::low(std::uint32_t length) {
  const std::optional<std::size_t> size_class = size_class_of(length);
  if (!size_class || closed_) return false;
  Class& of = classes_[*size_class];
  if (of.missed > 0) return true;
  const std::uint64_t available = of.free + potential(of);
  return available * kLowOneIn < of.used + available;
}

bool SlotPool::spare(std::uint32_t length) {
  const std::optional<std::size_t> size_class = size_class_of(length);
  if (!size_class || closed_ || classes_[*size_class].missed > 0) return false;
  Class& of = classes_[*size_class];
  const std::uint64_t available = of.free + potential(of);
  return available > 0 && (available - 1) * kLowOneIn >= of.used + available;
}

std::vector<Need> SlotPool::needs() {
  if (reservation_.rounds_left > 0 && --reservation_.rounds_left == 0) {
    for (std::uint32_t unit = 0; unit < reservation_.units; ++unit) {
      const std::uint32_t slab = slab_of_unit_[reservation_.first + unit];
      if (slab != kNone) ++slabs_[slab]->tries;
    }
    end_reservation();
  }
  std::vector<Need> needs;
  for (std::size_t i = 0; i < classes_.size(); ++i) {
    if (classes_[i].missed == 0 && (classes_[i].slabs == 0 || !low(classes_[i].slot_bytes))) {
      continue;
    }
    Need need = need_of(i);
    if (need.count > 0 || !need.candidates.empty()) needs.push_back(std::move(need));
  }
  return needs;
}

Need SlotPool::need_of(std::size_t size_class) {
  Class& of = classes_[size_class];
  Need need;
  need.slot_bytes = of.slot_bytes;
  const std::uint64_t available = of.free + potential(of);
  const std::uint64_t total = of.used + available;
  const std::uint64_t wanted = (total + kAskOneIn - 1) / kAskOneIn + of.missed;
  if (wanted > available) {
    const std::uint64_t most = std::min<std::uint64_t>(of.used, wire::kMaxFreeItems);
    need.count = static_cast<std::uint32_t>(std::min(wanted - available, most));
  }
  const bool starving = available == 0 && of.missed > 0 && (of.slabs == 0 || of.missed >= total);
  of.missed = 0;
  if (starving) {
    if (reservation_.rounds_left == 0) reserve_run(size_class);
    if (reservation_.rounds_left > 0 && reservation_.size_class == size_class) {
      need.candidates = slots_in_reservation();
    }
  }
  return need;
}

/// Chooses the run of units that is cheapest to empty.
void SlotPool::reserve_run(std::size_t size_class) {
  using Cost = std::tuple<std::uint32_t, std::uint64_t, std::uint64_t>;  // tries, bytes, age
  const std::uint32_t units = classes_[size_class].fewest_units;
  std::uint32_t best = kNone;
  Cost best_cost{};
  for (std::uint32_t first = 0; units <= unit_count_ && first <= unit_count_ - units; ++first) {
    Cost cost{};
    bool own = false;
    for (std::uint32_t unit = first; unit < first + units;) {
      if (slab_of_unit_[unit] == kNone) {
        ++unit;
        continue;
      }
      const Slab& slab = *slabs_[slab_of_unit_[unit]];
      auto& [tries, bytes, age] = cost;
      tries = std::max(tries, slab.tries / kPatience);
      bytes += std::uint64_t{slab.used} * classes_[slab.size_class].slot_bytes;
      age = std::max(age, slab.opened);
      own = own || slab.size_class == size_class;
      unit = slab.at.first_unit + slab.at.units;
    }
    if (own || (best != kNone && cost >= best_cost)) continue;
    best = first;
    best_cost = cost;
  }
  if (best == kNone) return;
  reservation_ = {best, units, size_class, kReservedRounds};
  ++units_version_;
  for (std::uint32_t unit = best; unit < best + units; ++unit) {
    if (slab_of_unit_[unit] == kNone) continue;
    Slab& slab = *slabs_[slab_of_unit_[unit]];
    if (std::exchange(slab.closing, true)) continue;
    classes_[slab.size_class].free -= slab.free.size();
    unlist(slab);
  }
}

void SlotPool::end_reservation() {
  for (std::uint32_t unit = 0; unit < reservation_.units; ++unit) {
    const std::uint32_t index = slab_of_unit_[reservation_.first + unit];
    if (index == kNone || !std::exchange(slabs_[index]->closing, false)) continue;
    Slab& slab = *slabs_[index];
    classes_[slab.size_class].free += slab.free.size();
    if (!slab.free.empty()) list(slab);
  }
  reservation_ = {};
  ++units_version_;
}

std::vector<wire::SlotRef> SlotPool::slots_in_reservation() const {
  std::vector<wire::SlotRef> slots;
  std::uint32_t last = kNone;
  for (std::uint32_t unit = 0; unit < reservation_.units; ++unit) {
    const std::uint32_t index = slab_of_unit_[reservation_.first + unit];
    if (index == kNone || index == last) continue;
    last = index;
    const Slab& slab = *slabs_[index];
    for (std::uint32_t i = 0; i < slab.generations.size(); ++i) {
      if (slots.size() == wire::kMaxFreeItems) return slots;
      if (const std::optional<Slot> slot = slot_at(slab, i)) {
        slots.push_back({slot->id, slot->generation});
      }
    }
  }
  return slots;
}

Result<> SlotPool::check_invariants() const {
  std::vector<std::uint64_t> used(classes_.size(), 0);
  std::vector<std::uint64_t> free(classes_.size(), 0);
  std::uint32_t units = 0;
  for (std::uint32_t index = 0; index < slabs_.size(); ++index) {
    if (slabs_[index] == nullptr) continue;
    const Slab& slab = *slabs_[index];
    units += slab.at.units;
    for (std::uint32_t unit = 0; unit < slab.at.units; ++unit) {
      if (slab_of_unit_[slab.at.first_unit + unit] != index) {
        return fail(Errc::corrupt, "a unit does not know its slab");
      }
    }
    const auto taken = static_cast<std::uint64_t>(
        std::count_if(slab.generations.begin(), slab.generations.end(),
                      [](std::uint64_t generation) { return generation != 0; }));
    if (taken != slab.used || slab.free.size() + taken != slab.generations.size()) {
      return fail(Errc::corrupt, "a slab's slots do not add up");
    }
    for (const std::uint32_t free_index : slab.free) {
      if (slab.generations[free_index] != 0) return fail(Errc::corrupt, "a slot is free and used");
    }
    if (!slab.closing && slab.free.empty() != (slab.listed == SIZE_MAX)) {
      return fail(Errc::corrupt, "a slab with free slots is not listed");
    }
    used[slab.size_class] += taken;
    if (!slab.closing) free[slab.size_class] += slab.free.size();
  }
  for (std::size_t i = 0; i < classes_.size(); ++i) {
    if (classes_[i].used != used[i] || classes_[i].free != free[i]) {
      return fail(Errc::corrupt, "a class's counts do not add up");
    }
  }
  if (units + free_units_ != unit_count_) return fail(Errc::corrupt, "units do not add up");
  return {};
}

}  // namespace membrain
