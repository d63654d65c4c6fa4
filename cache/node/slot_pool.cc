#include "cache/node/slot_pool.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "cache/node/size_classes.h"
#include "cache/node/slab.h"

namespace membrain {

namespace {

constexpr std::uint32_t kLargestUnitBytes = 2u << 20;
constexpr std::uint64_t kFewestUnits = 32;  // of a small arena: so many classes can have a slab

std::uint32_t unit_bytes_for(std::uint64_t capacity_bytes) noexcept {
  const std::uint64_t even =
      std::bit_floor(std::max<std::uint64_t>(capacity_bytes, 1)) / kFewestUnits;
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(even, kPageBytes, kLargestUnitBytes));
}

/// Fewest units of which at most an eighth is left over when slots are cut from them.
std::uint32_t good_units(std::uint32_t slot_bytes, std::uint32_t unit_bytes) noexcept {
  const std::uint32_t fewest = (slot_bytes + unit_bytes - 1) / unit_bytes;
  for (std::uint32_t units = fewest; units < 8 * fewest; ++units) {
    const std::uint64_t bytes = std::uint64_t{units} * unit_bytes;
    if (bytes % slot_bytes * 8 <= bytes) return units;
  }
  return fewest;
}

}  // namespace

SlotPool::SlotPool(std::uint64_t capacity_bytes, std::atomic<std::uint64_t>& generations)
    : generations_(generations),
      unit_bytes_(unit_bytes_for(capacity_bytes)),
      unit_count_(static_cast<std::uint32_t>(capacity_bytes / unit_bytes_)),
      slab_of_unit_(unit_count_, kNone),
      free_units_(unit_count_) {
  for (const std::uint32_t slot_bytes : size_classes()) {
    Class& added = classes_.emplace_back();
    added.slot_bytes = slot_bytes;
    added.fewest_units = (slot_bytes + unit_bytes_ - 1) / unit_bytes_;
    added.good_units = good_units(slot_bytes, unit_bytes_);
  }
}

SlotPool::~SlotPool() = default;

std::uint64_t SlotPool::capacity_bytes() const noexcept {
  return std::uint64_t{unit_count_} * unit_bytes_;
}

Result<Slot> SlotPool::allocate(std::uint32_t length) {
  const std::optional<std::size_t> size_class = size_class_of(length);
  if (!size_class) return fail(Errc::invalid_argument, "no size class holds it");
  if (closed_) return fail(Errc::out_of_capacity, "this node leaves");
  Class& of = classes_[*size_class];
  Slab* slab = of.with_free.empty() ? open_slab(*size_class) : slabs_[of.with_free.back()].get();
  if (slab == nullptr) {
    ++of.missed;
    return fail(Errc::out_of_capacity, "no free slot");
  }
  const std::uint32_t index = slab->free.back();
  slab->free.pop_back();
  slab->generations[index] = generations_.fetch_add(1) + 1;
  ++slab->used, ++of.used, --of.free;
  ++used_slots_, used_bytes_ += of.slot_bytes;
  if (slab->free.empty()) unlist(*slab);
  return *slot_at(*slab, index);
}

bool SlotPool::free(SlotId slot, Generation generation) {
  const std::optional<Slot> found = find(slot);
  if (!found || found->generation != generation) return false;
  Slab& slab = *slabs_[slab_of_unit_[found->slab.first_unit]];
  Class& of = classes_[slab.size_class];
  const std::uint64_t into =
      std::uint64_t{slot.value} * kPageBytes - std::uint64_t{slab.at.first_unit} * unit_bytes_;
  const auto index = static_cast<std::uint32_t>(into / of.slot_bytes);
  slab.generations[index] = 0;
  slab.free.push_back(index);
  --slab.used, --of.used;
  --used_slots_, used_bytes_ -= of.slot_bytes;
  if (!slab.closing) {
    ++of.free;
    list(slab);
  }
  if (slab.used == 0) close_slab(slab);
  return true;
}

Result<Slot> SlotPool::adopt(const Slot& slot) {
  const auto classes = size_classes();
  const auto found = std::lower_bound(classes.begin(), classes.end(), slot.slot_bytes);
  if (found == classes.end() || *found != slot.slot_bytes || !slot.generation) {
    return fail(Errc::corrupt, "an adopted slot of no size class");
  }
  const SlabPlace at = slot.slab;
  const std::uint64_t slab_bytes = std::uint64_t{at.units} * unit_bytes_;
  const std::uint64_t slab_offset = std::uint64_t{at.first_unit} * unit_bytes_;
  const std::uint64_t offset = std::uint64_t{slot.id.value} * kPageBytes;
  const bool inside = std::uint64_t{at.first_unit} + at.units <= unit_count_ &&
                      offset >= slab_offset && (offset - slab_offset) % slot.slot_bytes == 0 &&
                      offset - slab_offset + slot.slot_bytes <= slab_bytes;
  if (!inside) return fail(Errc::corrupt, "an adopted slot outside its slab");
  const auto size_class = static_cast<std::size_t>(found - classes.begin());
  const auto first = slab_of_unit_.begin() + at.first_unit;
  if (std::all_of(first, first + at.units, [](std::uint32_t slab) { return slab == kNone; })) {
    cut(size_class, at);
  }
  const std::uint32_t slab_index = slab_of_unit_[at.first_unit];
  if (slab_index == kNone || slabs_[slab_index]->at != at ||
      slabs_[slab_index]->size_class != size_class) {
    return fail(Errc::corrupt, "an adopted slot whose slab is cut otherwise");
  }
  Slab& slab = *slabs_[slab_index];
  const auto index = static_cast<std::uint32_t>((offset - slab_offset) / slot.slot_bytes);
  const auto free_at = std::find(slab.free.begin(), slab.free.end(), index);
  if (free_at == slab.free.end()) return fail(Errc::corrupt, "a slot was adopted twice");
  slab.free.erase(free_at);
  slab.generations[index] = slot.generation.value;
  Class& of = classes_[size_class];
  ++slab.used, ++of.used, --of.free;
  ++used_slots_, used_bytes_ += of.slot_bytes;
  if (slab.free.empty()) unlist(slab);
  return *slot_at(slab, index);
}

const SlotPool::Slab* SlotPool::slab_of(SlotId slot) const {
  const std::uint64_t unit = std::uint64_t{slot.value} * kPageBytes / unit_bytes_;
  if (unit >= unit_count_ || slab_of_unit_[unit] == kNone) return nullptr;
  return slabs_[slab_of_unit_[unit]].get();
}

std::optional<Slot> SlotPool::slot_at(const Slab& slab, std::uint32_t index) const {
  if (slab.generations[index] == 0) return std::nullopt;
  const std::uint32_t slot_bytes = classes_[slab.size_class].slot_bytes;
  const std::uint64_t offset =
      std::uint64_t{slab.at.first_unit} * unit_bytes_ + std::uint64_t{index} * slot_bytes;
  return Slot{SlotId{static_cast<std::uint32_t>(offset / kPageBytes)},
              Generation{slab.generations[index]}, slot_bytes, slab.at};
}

std::optional<Slot> SlotPool::find(SlotId slot) const {
  const Slab* slab = slab_of(slot);
  if (slab == nullptr) return std::nullopt;
  const std::uint32_t slot_bytes = classes_[slab->size_class].slot_bytes;
  const std::uint64_t into =
      std::uint64_t{slot.value} * kPageBytes - std::uint64_t{slab->at.first_unit} * unit_bytes_;
  if (into % slot_bytes != 0 || into / slot_bytes >= slab->generations.size()) return std::nullopt;
  return slot_at(*slab, static_cast<std::uint32_t>(into / slot_bytes));
}

std::optional<Slot> SlotPool::next_used(SlotId from) const {
  std::uint64_t unit = std::uint64_t{from.value} * kPageBytes / unit_bytes_;
  std::uint64_t offset = std::uint64_t{from.value} * kPageBytes;
  while (unit < unit_count_) {
    if (slab_of_unit_[unit] == kNone) {
      offset = ++unit * unit_bytes_;
      continue;
    }
    const Slab& slab = *slabs_[slab_of_unit_[unit]];
    const std::uint32_t slot_bytes = classes_[slab.size_class].slot_bytes;
    const std::uint64_t start = std::uint64_t{slab.at.first_unit} * unit_bytes_;
    const std::uint64_t into = offset - start;
    for (std::uint64_t i = (into + slot_bytes - 1) / slot_bytes; i < slab.generations.size(); ++i) {
      if (slab.generations[i] != 0) return slot_at(slab, static_cast<std::uint32_t>(i));
    }
    unit = std::uint64_t{slab.at.first_unit} + slab.at.units;
    offset = unit * unit_bytes_;
  }
  return std::nullopt;
}

std::vector<ClassCount> SlotPool::counts() const {
  std::vector<ClassCount> counts;
  for (const Class& of : classes_) {
    if (of.slabs > 0) counts.push_back({of.slot_bytes, of.used, of.free});
  }
  return counts;
}

// --- Slabs. ---

bool SlotPool::reserved_for_another(std::uint32_t unit, std::size_t size_class) const {
  const Reservation& kept = reservation_;
  return kept.rounds_left > 0 && kept.size_class != size_class && unit >= kept.first &&
         unit < kept.first + kept.units;
}

/// The first run of free units, kNone if there is none.
std::uint32_t SlotPool::find_run(std::uint32_t units, std::size_t size_class) const {
  if (units > free_units_) return kNone;
  std::uint32_t length = 0;
  for (std::uint32_t unit = lowest_free_; unit < unit_count_; ++unit) {
    const bool free = slab_of_unit_[unit] == kNone && !reserved_for_another(unit, size_class);
    length = free ? length + 1 : 0;
    if (length == units) return unit + 1 - units;
  }
  return kNone;
}

SlotPool::Slab* SlotPool::open_slab(std::size_t size_class) {
  const Class& of = classes_[size_class];
  for (const std::uint32_t units : {of.good_units, of.fewest_units}) {
    const std::uint32_t first = find_run(units, size_class);
    if (first == kNone) continue;
    if (reservation_.rounds_left > 0 && reservation_.size_class == size_class) end_reservation();
    return &cut(size_class, {first, units});
  }
  return nullptr;
}

/// Makes a slab of free units.
SlotPool::Slab& SlotPool::cut(std::size_t size_class, SlabPlace at) {
  Class& of = classes_[size_class];
  if (vacant_slabs_.empty()) {
    vacant_slabs_.push_back(static_cast<std::uint32_t>(slabs_.size()));
    slabs_.emplace_back();
  }
  const std::uint32_t index = vacant_slabs_.back();
  vacant_slabs_.pop_back();
  slabs_[index] = std::make_unique<Slab>();
  Slab& slab = *slabs_[index];
  slab.index = index;
  slab.size_class = size_class;
  slab.at = at;
  slab.opened = next_opened_++;
  const std::uint64_t slots = std::uint64_t{at.units} * unit_bytes_ / of.slot_bytes;
  slab.generations.assign(slots, 0);
  slab.free.resize(slots);
  std::iota(slab.free.rbegin(), slab.free.rend(), 0);
  const auto first = slab_of_unit_.begin() + at.first_unit;
  std::fill(first, first + at.units, index);
  free_units_ -= at.units;
  while (lowest_free_ < unit_count_ && slab_of_unit_[lowest_free_] != kNone) ++lowest_free_;
  ++units_version_;
  ++of.slabs, of.free += slots;
  list(slab);
  return slab;
}

/// Gives the units of an empty slab back.
void SlotPool::close_slab(Slab& slab) {
  Class& of = classes_[slab.size_class];
  check(slab.used == 0, "a slab in use was closed");
  if (!slab.closing) of.free -= slab.free.size();
  --of.slabs;
  unlist(slab);
  const auto first = slab_of_unit_.begin() + slab.at.first_unit;
  std::fill(first, first + slab.at.units, kNone);
  free_units_ += slab.at.units;
  lowest_free_ = std::min(lowest_free_, slab.at.first_unit);
  ++units_version_;
  const std::uint32_t index = slab.index;
  slabs_[index] = nullptr;
  vacant_slabs_.push_back(index);
}

void SlotPool::list(Slab& slab) {
  if (slab.listed != SIZE_MAX) return;
  std::vector<std::uint32_t>& with_free = classes_[slab.size_class].with_free;
  slab.listed = with_free.size();
  with_free.push_back(slab.index);
}

void SlotPool::unlist(Slab& slab) {
  if (slab.listed == SIZE_MAX) return;
  std::vector<std::uint32_t>& with_free = classes_[slab.size_class].with_free;
  const std::uint32_t last = with_free.back();
  with_free[slab.listed] = last;
  slabs_[last]->listed = slab.listed;
  with_free.pop_back();
  slab.listed = SIZE_MAX;
}

}  // namespace membrain
