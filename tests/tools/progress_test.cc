#include "tools/progress.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace membrain {
namespace {

using std::chrono::seconds;

TEST(ProgressBar, ShowsShareRateAndRemainingTime) {
  EXPECT_EQ(
      progress_bar({.done = 600, .total = 1200, .elapsed = seconds(2), .note = "36 % hit"}, 120),
      " 50 % |##############..............|    600 of 1,200  300/s  2 s left  36 % hit");
}

TEST(ProgressBar, FitsANarrowTerminalAndDropsWhatDoesNotFit) {
  const ProgressState state{600, 1200, seconds(2), "36 % hit"};
  EXPECT_EQ(progress_bar(state, 54), " 50 % |##############..............|    600 of 1,200");
  EXPECT_LE(progress_bar(state, 10).size(), 10U);
}

TEST(ProgressBar, BearsTheBeginningAndTheEnd) {
  EXPECT_EQ(progress_bar({0, 10, {}, {}}, 80),
            "  0 % |............................|   0 of 10  0.0/s");
  EXPECT_EQ(progress_bar({10, 10, seconds(4), {}}, 80),
            "100 % |############################|  10 of 10  2.5/s");
  EXPECT_NE(progress_bar({0, 0, {}, {}}, 80).find("100 %"), std::string::npos);
}

TEST(ProgressBar, OfARunOfAGivenLengthLeavesTheRateToTheNote) {
  const ProgressState state{15, 60, seconds(15), "350/s", ProgressUnit::seconds};
  EXPECT_EQ(progress_bar(state, 120),
            " 25 % |#######.....................|  15 of 60 s  45 s left  350/s");
  EXPECT_EQ(progress_text(state), "15 of 60 s, 45 s left, 350/s");
}

TEST(ProgressText, IsASentenceForALog) {
  EXPECT_EQ(progress_text({.done = 1200, .total = 12031, .elapsed = seconds(1), .note = ""}),
            "1,200 of 12,031 requests, 1,200/s, 10 s left");
}

}  // namespace
}  // namespace membrain
