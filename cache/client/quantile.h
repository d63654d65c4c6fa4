// A quantile of numbers that come one by one, without keeping them. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

namespace membrain {

/// The P-square algorithm (Jain and Chlamtac, Communications of the ACM 28(10), 1985): five
/// markers, whose heights are moved along a parabola as numbers come.
class P2Quantile {
 public:
  explicit P2Quantile(double quantile) noexcept;

  void add(double number) noexcept;
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  /// The estimate; exact for at most five numbers, 0 for none.
  [[nodiscard]] double value() const noexcept;

 private:
  static constexpr std::size_t kMarkers = 5;
  [[nodiscard]] double parabola(std::size_t marker, double step) const noexcept;
  [[nodiscard]] double line(std::size_t marker, double step) const noexcept;

  double quantile_;
  std::uint64_t count_ = 0;
  std::array<double, kMarkers> heights_{};
  std::array<double, kMarkers> places_{1, 2, 3, 4, 5};
  std::array<double, kMarkers> wanted_{};
  std::array<double, kMarkers> steps_{};
};

/// The same of what came of late: P-square forgets nothing, so it begins anew with every kEpoch
/// numbers, and the epoch before speaks until the new one knows enough.
class RecentQuantile {
 public:
  static constexpr std::uint64_t kEpoch = 256;  ///< numbers
  static constexpr std::uint64_t kEnough = 20;  ///< numbers, for a first estimate

  explicit RecentQuantile(double quantile) noexcept : now_(quantile), fresh_(quantile) {}

  void add(double number) noexcept;
  /// Nothing before kEnough have come.
  [[nodiscard]] std::optional<double> value() const noexcept;

 private:
  P2Quantile now_;
  P2Quantile fresh_;  ///< one of nothing
  std::optional<double> before_;
};

}  // namespace membrain
