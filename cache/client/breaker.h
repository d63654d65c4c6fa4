// Breaker: whether a lane may be used, by how it did of late. Pure.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"
#include "cache/client/backoff.h"

namespace membrain {

/// Closed while requests are answered. A failure makes the lane doubted for a while: others are
/// preferred. kFailuresToOpen in a row open it: nobody uses it, until a delay that grows with each
/// failed attempt (a Backoff) is over. Then it is half open: kProbes of the next requests may go,
/// and their outcome closes it or opens it again.
class Breaker {
 public:
  static constexpr std::uint32_t kFailuresToOpen = 3;  ///< in a row
  static constexpr std::uint32_t kProbes = 1;          ///< under way at once while half open
  static constexpr Duration kFirstDelay = std::chrono::milliseconds(100);
  static constexpr Duration kLongestDelay = std::chrono::seconds(2);

  enum class State : std::uint8_t { closed, open, half_open };
  /// The right to send one request; ended by `failed` or `give_back`, or by anything that closes.
  struct Pass {
    std::uint32_t probe = 0;  ///< of which time of being open; 0: an ordinary request
  };

  [[nodiscard]] State state(TimePoint now) const noexcept;
  /// A request may go now.
  [[nodiscard]] bool admits(TimePoint now) const noexcept;
  /// Closed, but something failed a short while ago.
  [[nodiscard]] bool doubted(TimePoint now) const noexcept {
    return !open_ && failures_ != 0 && now < retry_at_;
  }
  /// When it is no longer doubted, or half open; long past if nothing has failed.
  [[nodiscard]] TimePoint retry_at() const noexcept { return retry_at_; }

  /// For each request, where `admits`.
  [[nodiscard]] Pass enter(TimePoint now) noexcept;
  /// The request ended without a verdict: taken back, say.
  void give_back(Pass pass) noexcept;

  /// The other side has answered, whatever it said.
  void succeeded() noexcept;
  /// A request was not answered. What was sent before it opened says nothing about now.
  void failed(TimePoint now, std::uint64_t luck, Pass pass) noexcept;
  /// The connection broke, or could not be made: so much is certain, whoever asked.
  void lost(TimePoint now, std::uint64_t luck) noexcept { failed(now, luck, {opened_}); }
  /// A connection was made: the delay is over, and the next request tells.
  void reachable(TimePoint now) noexcept { retry_at_ = std::min(retry_at_, now); }

 private:
  Backoff delays_{kFirstDelay, kLongestDelay};
  TimePoint retry_at_{};
  std::uint32_t failures_ = 0;  ///< in a row
  std::uint32_t opened_ = 0;    ///< times
  std::uint32_t probes_ = 0;    ///< under way
  bool open_ = false;           ///< or half open
};

}  // namespace membrain
