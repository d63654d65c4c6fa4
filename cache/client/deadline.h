// When an operation's time-out is over.
#pragma once

#include <algorithm>
#include <chrono>

#include "base/clock.h"

namespace membrain {

/// Nobody waits for longer: what users mean by no limit at all (`milliseconds::max()`) would be the
/// past, in nanoseconds.
inline constexpr std::chrono::milliseconds kLongestTimeout = std::chrono::hours(24 * 365);

[[nodiscard]] inline TimePoint deadline_after(TimePoint now,
                                              std::chrono::milliseconds timeout) noexcept {
  return now + std::min(timeout, kLongestTimeout);
}

}  // namespace membrain
