// LaneModel: what was measured of one lane to one node. Pure.
#pragma once

#include <cstdint>
#include <optional>

#include "base/clock.h"
#include "cache/client/breaker.h"
#include "cache/client/quantile.h"

namespace membrain {

/// Latency and bandwidth as moving averages (with TCP's gain of an eighth, RFC 6298), the 95th
/// percentile of latency, and health. Latency is the time from a request to the first of its
/// answer; bandwidth is that of one payload.
///
/// Cost  Some 500 bytes; nothing grows.
class LaneModel {
 public:
  static constexpr double kGain = 0.125;
  static constexpr std::uint64_t kLeastBytes = 16 * 1024;  ///< smaller ones tell no bandwidth
  /// Averages older than this say nothing: the lane is tried again.
  static constexpr Duration kMemory = std::chrono::seconds(5);

  // A request that is not answered: when it is asked for elsewhere as well, when instead.
  static constexpr Duration kLeastHedge = std::chrono::milliseconds(5);
  static constexpr Duration kUnknownHedge = std::chrono::milliseconds(50);
  static constexpr Duration kLeastPatience = std::chrono::milliseconds(250);
  static constexpr Duration kUnknownPatience = std::chrono::seconds(1);
  static constexpr int kPatience = 8;  ///< times the percentile
  /// A request that was taken back sooner than this says nothing about the lane.
  static constexpr Duration kFairChance = std::chrono::milliseconds(100);
  static constexpr int kFairShare = 4;  ///< times the percentile

  void answered(Duration took, TimePoint now) noexcept;
  void moved(std::uint64_t bytes, Duration took, TimePoint now) noexcept;

  /// What `bytes` would take, behind `bytes_ahead`; nothing if nothing is known of late.
  [[nodiscard]] std::optional<Duration> expected(std::uint64_t bytes_ahead, std::uint64_t bytes,
                                                 TimePoint now) const noexcept;
  [[nodiscard]] std::optional<Duration> p95() const noexcept;
  [[nodiscard]] Duration latency() const noexcept { return Duration(Duration::rep(latency_ns_)); }
  [[nodiscard]] double bytes_per_second() const noexcept { return bytes_per_second_; }

  /// How long nothing may come of a request before its blocks are asked for elsewhere too, while
  /// `receiving` bytes are on their way; nothing if that cannot be told.
  [[nodiscard]] std::optional<Duration> hedge_after(std::uint64_t receiving) const noexcept;
  /// Likewise, before it is given up.
  [[nodiscard]] std::optional<Duration> patience(std::uint64_t receiving) const noexcept;
  /// Nothing came for so long that whoever stopped waiting holds it against the lane.
  [[nodiscard]] bool too_quiet(Duration silence) const noexcept;

  [[nodiscard]] Breaker& breaker() noexcept { return breaker_; }
  [[nodiscard]] const Breaker& breaker() const noexcept { return breaker_; }

 private:
  [[nodiscard]] std::optional<Duration> time_to_move(std::uint64_t bytes) const noexcept;

  double latency_ns_ = 0;  ///< 0: not known
  double bytes_per_second_ = 0;
  TimePoint last_{};  ///< when anything was measured
  RecentQuantile p95_{0.95};
  Breaker breaker_;
};

}  // namespace membrain
