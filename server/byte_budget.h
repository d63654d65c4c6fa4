// A token bucket of bytes. Pure: time is a parameter.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace membrain {

/// Lets through so many bytes a second, in pieces of any size: what one takes too much is missing
/// from the next. What is not spent within kBurst is lost.
class ByteBudget {
 public:
  static constexpr Duration kBurst = std::chrono::milliseconds(250);

  ByteBudget(std::uint64_t bytes_per_second, TimePoint start) noexcept
      : rate_(static_cast<double>(bytes_per_second)), bytes_(most()), last_(start) {}

  void pass(TimePoint now) noexcept {
    const double seconds = std::chrono::duration<double>(now - last_).count();
    bytes_ = std::min(bytes_ + rate_ * seconds, most());
    last_ = std::max(last_, now);
  }
  /// From now on.
  void set_rate(std::uint64_t bytes_per_second) noexcept {
    rate_ = static_cast<double>(bytes_per_second);
    bytes_ = std::min(bytes_, most());
  }
  [[nodiscard]] bool open() const noexcept { return bytes_ > 0; }
  void spend(std::uint64_t bytes) noexcept { bytes_ -= static_cast<double>(bytes); }

 private:
  [[nodiscard]] double most() const noexcept {
    return rate_ * std::chrono::duration<double>(kBurst).count();
  }

  double rate_;
  double bytes_;
  TimePoint last_;
};

}  // namespace membrain
