#include "transport/completion.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <coroutine>
#include <vector>

#include "transport/task.h"

namespace membrain {
namespace {

Task<> note_outcome(Completion& completion, std::vector<Result<>>& outcomes) {
  outcomes.push_back(co_await completion);
}

TEST(Completion, ItsWaiterIsResumedByTheReadyQueueAndNotByFinish) {
  ReadyQueue ready;
  Completion completion(ready);
  std::vector<Result<>> outcomes;
  Task<> task = note_outcome(completion, outcomes);
  task.start();
  EXPECT_FALSE(ready.run());
  completion.finish({});
  EXPECT_TRUE(outcomes.empty());
  EXPECT_TRUE(ready.run());
  ASSERT_EQ(outcomes.size(), 1u);
  EXPECT_TRUE(outcomes[0]);
}

TEST(Completion, OneThatCountsEndsWithTheLastFinishAndKeepsTheFirstFailure) {
  ReadyQueue ready;
  Completion completion(ready, 2);
  completion.expect(2);
  std::vector<Result<>> outcomes;
  Task<> task = note_outcome(completion, outcomes);
  task.start();
  completion.finish({});
  completion.finish(fail(Errc::stale, "first"));
  completion.finish(fail(Errc::peer_lost, "second"));
  EXPECT_FALSE(completion.done());
  EXPECT_EQ(completion.outstanding(), 1u);
  EXPECT_TRUE(ready.empty());
  completion.finish({});
  EXPECT_TRUE(completion.done());
  ready.run();
  ASSERT_EQ(outcomes.size(), 1u);
  ASSERT_FALSE(outcomes[0]);
  EXPECT_EQ(outcomes[0].error().code, Errc::stale);
}

TEST(Completion, OneThatExpectsNothingIsDone) {
  ReadyQueue ready;
  Completion completion(ready, 0);
  std::vector<Result<>> outcomes;
  Task<> task = note_outcome(completion, outcomes);
  task.start();
  EXPECT_TRUE(task.done());
}

TEST(CompletionDeathTest, DestroyingOneThatIsExpectedToFinishEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        ReadyQueue ready;
        const Completion completion(ready);
      },
      "destroyed before it ended");
}

TEST(CompletionDeathTest, FinishingTooOftenEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        ReadyQueue ready;
        Completion completion(ready);
        completion.finish({});
        completion.finish({});
      },
      "finished too often");
}

Task<> take(CreditWindow& window, std::uint64_t credits, int name, std::vector<int>& order) {
  co_await window.take(credits);
  order.push_back(name);
}

TEST(CreditWindow, ServesFirstComeFirstServedEvenIfALaterRequestWouldFit) {
  ReadyQueue ready;
  CreditWindow window(ready, 10);
  std::vector<int> order;
  std::vector<Task<>> tasks;
  const std::vector<std::uint64_t> wanted = {6, 6, 1};
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    tasks.push_back(take(window, wanted[i], static_cast<int>(i), order));
    tasks.back().start();
  }
  EXPECT_EQ(order, (std::vector<int>{0}));
  window.give(6);
  ready.run();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(window.left(), 3u);
  window.give(6);
  window.give(1);
  EXPECT_TRUE(window.idle());
}

TEST(CreditWindow, ARequestLargerThanTheWindowIsServedAlone) {
  ReadyQueue ready;
  CreditWindow window(ready, 10);
  std::vector<int> order;
  Task<> small = take(window, 1, 1, order);
  Task<> huge = take(window, 1000, 2, order);
  small.start();
  huge.start();
  EXPECT_EQ(order, (std::vector<int>{1}));
  window.give(1);
  ready.run();
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
  EXPECT_EQ(window.left(), 0u);
  window.give(1000);
  EXPECT_TRUE(window.idle());
}

/// Suspends until the ready queue is run.
struct Yield {
  ReadyQueue& ready;
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) const { ready.push(waiter); }
  void await_resume() const noexcept {}
};

Task<> borrow(ReadyQueue& ready, CreditWindow& window, std::uint64_t credits, std::uint64_t& held,
              std::uint64_t& most) {
  for (int i = 0; i < 100; ++i) {
    co_await window.take(credits);
    held += credits;
    most = std::max(most, held);
    Yield yield{ready};
    co_await yield;
    held -= credits;
    window.give(credits);
  }
}

TEST(CreditWindow, NeverLendsMoreThanItHas) {
  ReadyQueue ready;
  CreditWindow window(ready, 16);
  std::uint64_t held = 0;
  std::uint64_t most = 0;
  std::vector<Task<>> tasks;
  for (std::uint64_t i = 1; i <= 12; ++i) {
    tasks.push_back(borrow(ready, window, i, held, most));
    tasks.back().start();
  }
  while (ready.run()) {
  }
  EXPECT_TRUE(
      std::all_of(tasks.begin(), tasks.end(), [](const Task<>& task) { return task.done(); }));
  EXPECT_LE(most, 16u);
  EXPECT_TRUE(window.idle());
}

}  // namespace
}  // namespace membrain
