// Time as a parameter: nothing below tools/ reads a clock that a test cannot move.
#pragma once

#include <chrono>

namespace membrain {

using Duration = std::chrono::nanoseconds;
/// A moment on a monotonic clock. Wall time is never used for safety.
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;

/// Where "now" comes from. Implementations may be read from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual TimePoint now() const noexcept = 0;
};

/// The machine's monotonic clock.
class SteadyClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const noexcept override { return std::chrono::steady_clock::now(); }
};

/// A clock that stands still until it is moved: tests and the simulator. One thread.
class ManualClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const noexcept override { return now_; }
  void advance(Duration by) noexcept { now_ += by; }
  void set(TimePoint to) noexcept { now_ = to; }

 private:
  TimePoint now_{std::chrono::hours(1)};
};

}  // namespace membrain
