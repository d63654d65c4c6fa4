#include "tools/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace membrain {
namespace {

TEST(Histogram, ThatIsEmptyHasNoPercentiles) {
  const Histogram histogram;
  EXPECT_EQ(histogram.count(), 0U);
  EXPECT_EQ(histogram.percentile(50), 0U);
}

TEST(Histogram, KeepsSmallValuesExactly) {
  Histogram histogram;
  for (std::uint64_t value = 1; value <= 60; ++value) histogram.record(value);
  EXPECT_EQ(histogram.percentile(0), 1U);
  EXPECT_EQ(histogram.percentile(50), 30U);
  EXPECT_EQ(histogram.percentile(100), 60U);
}

TEST(Histogram, TakesTheLargestAndTheSmallestValue) {
  Histogram histogram;
  histogram.record(0);
  histogram.record(UINT64_MAX);
  EXPECT_EQ(histogram.percentile(50), 0U);
  EXPECT_EQ(histogram.percentile(99), UINT64_MAX);
}

TEST(Histogram, IsAtMostAThirtySecondTooHighAndNeverTooLow) {
  std::mt19937_64 random(7);
  std::vector<std::uint64_t> values;
  Histogram histogram;
  for (int count = 0; count < 20000; ++count) {
    values.push_back(random() >> (random() % 64));
    histogram.record(values.back());
  }
  std::ranges::sort(values);
  for (const double percent : {1.0, 25.0, 50.0, 90.0, 99.0, 99.9}) {
    const auto rank = static_cast<std::size_t>(std::ceil(percent / 100 * 20000));
    const std::uint64_t exact = values[rank - 1];
    const std::uint64_t shown = histogram.percentile(percent);
    EXPECT_GE(shown, exact);
    EXPECT_LE(static_cast<double>(shown), static_cast<double>(exact) * (1 + 1.0 / 31));
  }
}

TEST(Histogram, MergedFromPartsEqualsTheWhole) {
  Histogram whole;
  Histogram odd;
  Histogram even;
  for (std::uint64_t value = 0; value < 5000; ++value) {
    whole.record(value * value);
    (value % 2 == 0 ? even : odd).record(value * value);
  }
  odd.merge(even);
  EXPECT_EQ(odd.count(), whole.count());
  EXPECT_EQ(odd.largest(), whole.largest());
  for (double percent = 0; percent <= 100; percent += 0.5) {
    EXPECT_EQ(odd.percentile(percent), whole.percentile(percent));
  }
}

}  // namespace
}  // namespace membrain
