#include "cache/client/pin_desk.h"

#include <utility>

namespace membrain {

void PinDesk::release(std::span<const LookupId> lookups) {
  if (lookups.empty()) return;
  const std::lock_guard lock(mutex_);
  if (!bell_) return;
  released_.insert(released_.end(), lookups.begin(), lookups.end());
  if (!rung_) rung_ = bell_();
}

std::vector<LookupId> PinDesk::take() {
  const std::lock_guard lock(mutex_);
  rung_ = false;
  return std::exchange(released_, {});
}

void PinDesk::close() {
  const std::lock_guard lock(mutex_);
  bell_ = nullptr;
  released_.clear();
}

}  // namespace membrain
