#include "cache/client/pins.h"

#include <algorithm>

namespace membrain {

void PinRegistry::release(LookupId lookup) {
  held_.erase(lookup);
  unpinning_.insert_or_assign(lookup, Unpinning{lookup, NamespaceId{}, {}, next_serial_++});
}

void PinRegistry::release(LookupId lookup, NamespaceId space, std::vector<BlockKey> keys) {
  if (keys.empty()) return;
  unpinning_.emplace(lookup, Unpinning{lookup, space, std::move(keys), next_serial_++});
}

void PinRegistry::release_all() {
  for (const LookupId lookup : held()) release(lookup);
}

const HeldPin* PinRegistry::find(LookupId lookup) const noexcept {
  const auto found = held_.find(lookup);
  return found == held_.end() ? nullptr : &found->second;
}

std::vector<LookupId> PinRegistry::held() const {
  std::vector<LookupId> lookups;
  lookups.reserve(held_.size());
  for (const auto& [lookup, pin] : held_) lookups.push_back(lookup);
  return lookups;
}

std::vector<Unpinning> PinRegistry::unpinning(std::size_t max_count, std::size_t max_keys) const {
  std::vector<Unpinning> batch;
  std::size_t keys = 0;
  for (const auto& [lookup, one] : unpinning_) {
    keys += one.keys.size();
    if (batch.size() == max_count || (keys > max_keys && !batch.empty())) break;
    batch.push_back(one);
  }
  return batch;
}

void PinRegistry::acknowledge(std::span<const Unpinning> told) {
  for (const Unpinning& one : told) {
    const auto found = unpinning_.find(one.lookup);
    if (found != unpinning_.end() && found->second.serial == one.serial) unpinning_.erase(found);
  }
}

}  // namespace membrain
