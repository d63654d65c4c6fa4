#include "tools/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace membrain {

std::size_t Histogram::bucket_of(std::uint64_t value) noexcept {
  const unsigned width = static_cast<unsigned>(std::bit_width(value));
  if (width <= kStepBits) return value;
  const unsigned shift = width - kStepBits - 1;  // keeps the leading one and kStepBits below it
  return (std::size_t{shift} << kStepBits) + (value >> shift);
}

std::uint64_t Histogram::last_of(std::size_t bucket) noexcept {
  if (bucket < (std::size_t{2} << kStepBits)) return bucket;
  const auto shift = static_cast<unsigned>((bucket >> kStepBits) - 1);
  const std::uint64_t lead = bucket - (std::size_t{shift} << kStepBits);
  return (lead << shift) + ((std::uint64_t{1} << shift) - 1);
}

void Histogram::record(std::uint64_t value) noexcept {
  ++buckets_[bucket_of(value)];
  ++count_;
  largest_ = std::max(largest_, value);
}

void Histogram::merge(const Histogram& other) noexcept {
  for (std::size_t bucket = 0; bucket < kBuckets; ++bucket) {
    buckets_[bucket] += other.buckets_[bucket];
  }
  count_ += other.count_;
  largest_ = std::max(largest_, other.largest_);
}

std::uint64_t Histogram::percentile(double percent) const noexcept {
  const double share = std::clamp(percent, 0.0, 100.0) / 100;
  const auto rank = std::max<std::uint64_t>(
      1, static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(count_))));
  std::uint64_t seen = 0;
  for (std::size_t bucket = 0; bucket < kBuckets; ++bucket) {
    seen += buckets_[bucket];
    if (seen >= rank) return std::min(last_of(bucket), largest_);
  }
  return largest_;
}

}  // namespace membrain
