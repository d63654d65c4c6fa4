#include "cache/node/adoption.h"

#include <algorithm>
#include <optional>

#include "base/checksum.h"
#include "cache/node/generations.h"

namespace membrain {

bool Adoption::step(std::size_t most_bytes) {
  const std::size_t count = table_.arena().seals().size();
  std::size_t bytes = 0;
  for (; next_ < count && bytes < most_bytes; ++next_) {
    bytes += sizeof(Seal) + take(SlotId{static_cast<std::uint32_t>(next_)});
  }
  return next_ == count;
}

std::size_t Adoption::percent() const noexcept {
  const std::size_t count = table_.arena().seals().size();
  return count == 0 ? 100 : next_ * 100 / count;
}

/// Decides one seal; returns the bytes that were hashed.
std::size_t Adoption::take(SlotId slot) {
  Arena& arena = table_.arena();
  Seal& seal = arena.seal(slot);
  if (seal.state.load(std::memory_order_relaxed) == Seal::free) return 0;
  if (take_lent(slot)) return 0;
  const std::optional<SealContent> content = read_seal(seal, slot);
  if (!content || content->entry.generation.value > kMaxGeneration) {
    ++torn_;
    clear_seal(seal, arena.next_generation());
    return 0;
  }
  const wire::SlotEntry& entry = content->entry;
  arena.know(entry.generation);
  const std::uint64_t offset = std::uint64_t{slot.value} * kPageBytes;
  const bool inside = entry.length <= arena.capacity_bytes() - offset;
  const bool sound = inside && checksum(arena.memory(slot, entry.length)) == entry.checksum;
  if (sound && table_.adopt(*content)) {
    ++adopted_;
  } else {
    ++damaged_;
    NodeCounters::add(counters_.corrupt_slots);
    clear_seal(seal, arena.next_generation());
  }
  return inside ? entry.length : 0;
}

/// True if the slot is lent to a writer who may still write to it.
bool Adoption::take_lent(SlotId slot) {
  Arena& arena = table_.arena();
  const std::optional<LentContent> content = read_lent(arena.seal(slot), slot);
  if (!content || content->generation.value > kMaxGeneration) return false;
  if (!arena.writer_alive(content->writer)) return false;
  arena.know(content->generation);
  const Result<SlotClaim> claim = table_.adopt_lent(*content);
  if (!claim) return false;
  lent_(*claim, content->writer);
  return true;
}

}  // namespace membrain
