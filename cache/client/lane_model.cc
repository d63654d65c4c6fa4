#include "cache/client/lane_model.h"

#include <algorithm>

namespace membrain {

namespace {

void average(double& mean, double number) noexcept {
  mean = mean == 0 ? number : mean + LaneModel::kGain * (number - mean);
}

}  // namespace

void LaneModel::answered(Duration took, TimePoint now) noexcept {
  const auto ns = static_cast<double>(std::max<Duration>(took, Duration(1)).count());
  average(latency_ns_, ns);
  p95_.add(ns);
  last_ = now;
}

void LaneModel::moved(std::uint64_t bytes, Duration took, TimePoint now) noexcept {
  if (bytes < kLeastBytes || took <= Duration::zero()) return;
  const double seconds = std::chrono::duration<double>(took).count();
  average(bytes_per_second_, static_cast<double>(bytes) / seconds);
  last_ = now;
}

std::optional<Duration> LaneModel::time_to_move(std::uint64_t bytes) const noexcept {
  if (bytes == 0) return Duration::zero();
  if (bytes_per_second_ == 0) return std::nullopt;
  const std::chrono::duration<double> seconds(static_cast<double>(bytes) / bytes_per_second_);
  return std::chrono::duration_cast<Duration>(seconds);
}

std::optional<Duration> LaneModel::expected(std::uint64_t bytes_ahead, std::uint64_t bytes,
                                            TimePoint now) const noexcept {
  if (latency_ns_ == 0 || now - last_ > kMemory) return std::nullopt;
  return latency() + time_to_move(bytes_ahead + bytes).value_or(Duration::zero());
}

std::optional<Duration> LaneModel::p95() const noexcept {
  const std::optional<double> ns = p95_.value();
  if (!ns) return std::nullopt;
  return Duration(Duration::rep(*ns));
}

std::optional<Duration> LaneModel::hedge_after(std::uint64_t receiving) const noexcept {
  const std::optional<Duration> moving = time_to_move(receiving);
  if (!moving) return std::nullopt;
  const Duration usual = p95() ? std::max<Duration>(*p95(), kLeastHedge) : kUnknownHedge;
  return usual + 2 * *moving;
}

std::optional<Duration> LaneModel::patience(std::uint64_t receiving) const noexcept {
  const std::optional<Duration> moving = time_to_move(receiving);
  if (!moving) return std::nullopt;
  const Duration usual =
      p95() ? std::max<Duration>(kPatience * *p95(), kLeastPatience) : kUnknownPatience;
  return usual + kPatience * *moving;
}

bool LaneModel::too_quiet(Duration silence) const noexcept {
  return silence >= std::max<Duration>(kFairChance, kFairShare * p95().value_or(Duration::zero()));
}

}  // namespace membrain
