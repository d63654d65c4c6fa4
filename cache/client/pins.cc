#include "cache/client/pins.h"

#include <algorithm>

namespace membrain {

void PinRegistry::release_all() {
  for (const auto& [lookup, pin] : held_) unpinning_.insert(lookup);
  held_.clear();
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

std::vector<LookupId> PinRegistry::unpinning(std::size_t max_count) const {
  std::vector<LookupId> lookups;
  lookups.reserve(std::min(max_count, unpinning_.size()));
  for (const LookupId lookup : unpinning_) {
    if (lookups.size() == max_count) break;
    lookups.push_back(lookup);
  }
  return lookups;
}

void PinRegistry::acknowledge(std::span<const LookupId> lookups) {
  for (const LookupId lookup : lookups) unpinning_.erase(lookup);
}

}  // namespace membrain
