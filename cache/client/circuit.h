// Circuit: whether the server is here, and when an absent one is tried again. Pure.
#pragma once

#include <cstdint>

#include "base/clock.h"
#include "cache/client/backoff.h"

namespace membrain {

/// Closed while the server answers: operations pass. Open after a loss: operations fail at once,
/// until a reconnect has succeeded. Attempts are spaced by a Backoff.
class Circuit {
 public:
  static constexpr Duration kFirstDelay = std::chrono::milliseconds(20);
  static constexpr Duration kLongestDelay = std::chrono::seconds(2);
  /// Where another server takes over, which is a matter of moments.
  static constexpr Duration kLongestOfSeveral = std::chrono::milliseconds(100);

  /// Equal seeds draw equal jitter.
  explicit Circuit(std::uint64_t seed, Duration longest = kLongestDelay) noexcept
      : random_(seed), delays_(kFirstDelay, longest) {}

  [[nodiscard]] bool closed() const noexcept { return closed_; }
  /// When to try next. Meaningful while open.
  [[nodiscard]] TimePoint retry_at() const noexcept { return retry_at_; }

  void succeeded() noexcept {
    closed_ = true;
    delays_.reset();
  }
  /// The connection was lost, or an attempt failed.
  void failed(TimePoint now) noexcept {
    closed_ = false;
    retry_at_ = now + delays_.next(next_random(random_));
  }

 private:
  std::uint64_t random_;
  Backoff delays_;
  bool closed_ = false;
  TimePoint retry_at_{};
};

}  // namespace membrain
