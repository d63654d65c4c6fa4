// A histogram of latencies: fixed size, any magnitude, mergeable.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace membrain {

/// Counts values in buckets of at most 1/32 of their size: percentiles are at most 3.2 % too high,
/// never too low. 15 KiB, whatever is recorded.
class Histogram {
 public:
  void record(std::uint64_t value) noexcept;
  void merge(const Histogram& other) noexcept;

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] std::uint64_t largest() const noexcept { return largest_; }
  /// A value that `percent` of all recorded ones do not exceed; 0 if there are none.
  [[nodiscard]] std::uint64_t percentile(double percent) const noexcept;

 private:
  static constexpr unsigned kStepBits = 5;  ///< 32 buckets for each doubling
  static constexpr std::size_t kBuckets = (64 - kStepBits + 1) << kStepBits;

  [[nodiscard]] static std::size_t bucket_of(std::uint64_t value) noexcept;
  [[nodiscard]] static std::uint64_t last_of(std::size_t bucket) noexcept;

  std::array<std::uint64_t, kBuckets> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t largest_ = 0;
};

}  // namespace membrain
