// How long a lease lasts, as etcd says it.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "base/clock.h"

namespace membrain {

/// Nobody asks for as much. Who is told of more renews as if it were this.
inline constexpr std::chrono::hours kLongestLease{1};

/// Zero: it is over.
inline Duration lease_time(std::int64_t seconds) noexcept {
  constexpr std::int64_t kMost = std::chrono::seconds(kLongestLease).count();
  return std::chrono::seconds(std::clamp<std::int64_t>(seconds, 0, kMost));
}

}  // namespace membrain
