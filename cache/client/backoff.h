// Backoff: delays that double, with jitter. Pure.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace membrain {

/// The next of a sequence of well-mixed numbers (splitmix64: Steele, Lea, Flood 2014).
[[nodiscard]] inline std::uint64_t next_random(std::uint64_t& state) noexcept {
  std::uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/// How long to wait before something that has failed is tried again, so that a thousand clients do
/// not come back in one instant.
class Backoff {
 public:
  constexpr Backoff(Duration first, Duration longest) noexcept : first_(first), longest_(longest) {}

  /// Between half of a time that doubles with each call, and all of it; `luck` chooses.
  [[nodiscard]] Duration next(std::uint64_t luck) noexcept {
    constexpr std::uint32_t kMaxDoublings = 16;
    const Duration whole =
        std::min<Duration>(longest_, first_ * (1LL << std::min(calls_, kMaxDoublings)));
    ++calls_;
    const auto half = static_cast<std::uint64_t>(whole.count() / 2);
    return whole / 2 + Duration(luck % (half + 1));
  }
  void reset() noexcept { calls_ = 0; }

 private:
  Duration first_;
  Duration longest_;
  std::uint32_t calls_ = 0;
};

}  // namespace membrain
