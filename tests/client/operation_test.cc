// How whoever waits for an operation hears of its end.
#include "cache/client/operation.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

#include "base/clock.h"
#include "transport/loop.h"

namespace membrain {
namespace {

using Transfer = detail::Outcome<TransferReport>;

TEST(AnOperation, TellsOnceWhenItEnds) {
  const auto outcome = std::make_shared<Transfer>();
  Operation<TransferReport> operation(outcome);
  int told = 0;
  operation.on_done([&told] { ++told; });
  EXPECT_EQ(told, 0);
  outcome->finish(TransferReport{});
  EXPECT_EQ(told, 1);
  outcome->finish(TransferReport{});
  EXPECT_EQ(told, 1) << "the first word counts";
  EXPECT_TRUE(operation.done());
  EXPECT_TRUE(operation.wait());
}

TEST(AnOperation, TellsAtOnceWhatIsOver) {
  const auto outcome = std::make_shared<Transfer>();
  outcome->finish(TransferReport{});
  int told = 0;
  Operation<TransferReport>(outcome).on_done([&told] { ++told; });
  EXPECT_EQ(told, 1);
  Operation<TransferReport>(nullptr).on_done([&told] { ++told; });
  EXPECT_EQ(told, 2) << "there is nothing to wait for";
}

TEST(AnOperation, TellsTheLastOneWhoAsked) {
  const auto outcome = std::make_shared<Transfer>();
  Operation<TransferReport> operation(outcome);
  int first = 0;
  int last = 0;
  operation.on_done([&first] { ++first; });
  operation.on_done([&last] { ++last; });
  outcome->finish(fail(Errc::timed_out, "too late"));
  EXPECT_EQ(first, 0);
  EXPECT_EQ(last, 1);
}

TEST(AnOperation, ThatIsOverIsWaitedForWithoutTheClientsLoop) {
  const SteadyClock clock;
  auto loop = std::make_unique<Loop>(clock);
  const auto outcome = std::make_shared<Transfer>();
  outcome->driven = loop.get();
  outcome->finish(TransferReport{});
  loop.reset();  // its client is gone
  EXPECT_TRUE(Operation<TransferReport>(outcome).wait());
}

TEST(AnOperation, TellsThatALookupWasTakenBack) {
  Operation<Match> operation(std::make_shared<detail::Outcome<Match>>());
  int told = 0;
  operation.on_done([&] {
    ++told;
    EXPECT_TRUE(operation.done()) << "and may be asked";
  });
  operation.cancel();
  EXPECT_EQ(told, 1);
  operation.cancel();
  EXPECT_EQ(told, 1);
}

TEST(AnOperation, TellsOnceWhoeverIsFaster) {
  for (int round = 0; round < 500; ++round) {
    const auto outcome = std::make_shared<Transfer>();
    Operation<TransferReport> operation(outcome);
    std::atomic<int> told = 0;
    {
      const std::jthread ending([&] { outcome->finish(TransferReport{}); });
      operation.on_done([&told] { ++told; });
    }
    EXPECT_EQ(told, 1);
  }
}

}  // namespace
}  // namespace membrain
