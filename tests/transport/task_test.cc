#include "transport/task.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "base/clock.h"
#include "transport/completion.h"
#include "transport/loop.h"

namespace membrain {
namespace {

constexpr std::uint64_t kMillion = 1'000'000;

Task<std::uint64_t> one() {
  co_return 1;
}

Task<> sum_of_children(std::uint64_t count, std::uint64_t& sum) {
  for (std::uint64_t i = 0; i < count; ++i) {
    Task<std::uint64_t> child = one();
    sum += co_await child;
  }
}

TEST(Task, AwaitsAMillionChildrenThatEndAtOnceWithoutEatingTheStack) {
  std::uint64_t sum = 0;
  Task<> task = sum_of_children(kMillion, sum);
  task.start();
  EXPECT_TRUE(task.done());
  EXPECT_EQ(sum, kMillion);
}

Task<std::uint64_t> one_later(ReadyQueue& ready) {
  Completion later(ready);
  later.finish({});
  Completion suspends(ready);
  Completion* const resumed = &suspends;
  resumed->expect();
  resumed->finish({});
  resumed->finish({});
  const Result<> outcome = co_await suspends;
  co_return outcome ? 1u : 0u;
}

/// Suspends until the ready queue is run.
struct Yield {
  ReadyQueue& ready;
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) const { ready.push(waiter); }
  void await_resume() const noexcept {}
};

Task<std::uint64_t> one_after_a_yield(ReadyQueue& ready) {
  Yield yield{ready};
  co_await yield;
  co_return 1;
}

Task<> sum_of_yielding_children(ReadyQueue& ready, std::uint64_t count, std::uint64_t& sum) {
  for (std::uint64_t i = 0; i < count; ++i) {
    Task<std::uint64_t> child = one_after_a_yield(ready);
    sum += co_await child;
  }
}

TEST(Task, AwaitsAMillionChildrenThatSuspendWithoutEatingTheStack) {
  ReadyQueue ready;
  std::uint64_t sum = 0;
  Task<> task = sum_of_yielding_children(ready, kMillion, sum);
  task.start();
  while (ready.run()) {
  }
  EXPECT_TRUE(task.done());
  EXPECT_EQ(sum, kMillion);
}

TEST(Task, ACompletionThatIsDoneAlreadyDoesNotSuspend) {
  ReadyQueue ready;
  Task<std::uint64_t> task = one_later(ready);
  task.start();
  ASSERT_TRUE(task.done());
  EXPECT_EQ(task.take(), 1u);
}

Task<std::string> concatenated(ReadyQueue& ready, std::string left, std::string right) {
  Yield yield{ready};
  co_await yield;
  co_return left + right;
}

Task<std::string> nested(ReadyQueue& ready, int depth) {
  if (depth == 0) co_return std::string("a string that is too long to be kept in place");
  Task<std::string> inner = nested(ready, depth - 1);
  std::string got = co_await inner;
  Task<std::string> joined = concatenated(ready, std::move(got), "+");
  co_return co_await joined;
}

Task<> keep(ReadyQueue& ready, int depth, std::string& into) {
  Task<std::string> task = nested(ready, depth);
  into = co_await task;
}

TEST(Task, CarriesValuesUpThroughManyLevels) {
  ReadyQueue ready;
  std::string got;
  Task<> task = keep(ready, 50, got);
  task.start();
  while (ready.run()) {
  }
  ASSERT_TRUE(task.done());
  EXPECT_EQ(got, "a string that is too long to be kept in place" + std::string(50, '+'));
}

Task<std::unique_ptr<int>> boxed(std::unique_ptr<int> value) {
  co_return std::move(value);
}

TEST(Task, ResultsThatCannotBeCopiedAreMoved) {
  Task<std::unique_ptr<int>> task = boxed(std::make_unique<int>(7));
  task.start();
  EXPECT_EQ(*task.take(), 7);
}

TEST(Task, OneThatNeverStartedCanBeDestroyed) {
  const auto witness = std::make_shared<int>(1);
  struct Holder {
    static Task<> hold(std::shared_ptr<int> held) {
      ++*held;
      co_return;
    }
  };
  { Task<> task = Holder::hold(witness); }
  EXPECT_EQ(witness.use_count(), 1);
  EXPECT_EQ(*witness, 1);
}

Task<> wait_for(Completion& completion) {
  const Result<> outcome = co_await completion;
  EXPECT_TRUE(outcome);
}

TEST(TaskDeathTest, DestroyingARunningTaskEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        ReadyQueue ready;
        auto* completion = new Completion(ready);
        Task<> task = wait_for(*completion);
        task.start();
      },
      "a running Task was destroyed");
}

TEST(Spawn, TheLoopOwnsTheTaskUntilItHasEnded) {
  ManualClock clock;
  Loop loop(clock);
  Completion completion(loop.ready());
  loop.spawn(wait_for(completion));
  EXPECT_EQ(loop.running_tasks(), 1u);
  EXPECT_FALSE(loop.turn());
  completion.finish({});
  EXPECT_TRUE(loop.turn());
  EXPECT_EQ(loop.running_tasks(), 0u);
}

Task<> spawn_more(Loop& loop, int depth, int& ended) {
  if (depth > 0) {
    loop.spawn(spawn_more(loop, depth - 1, ended));
    loop.spawn(spawn_more(loop, depth - 1, ended));
  }
  co_await loop.sleep_until(loop.now() + std::chrono::milliseconds(depth));
  ++ended;
}

TEST(Spawn, TasksMaySpawnTasks) {
  ManualClock clock;
  Loop loop(clock);
  int ended = 0;
  loop.spawn(spawn_more(loop, 9, ended));
  for (int turns = 0; turns < 100 && loop.running_tasks() != 0; ++turns) {
    if (!loop.turn()) clock.advance(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(loop.running_tasks(), 0u);
  EXPECT_EQ(ended, 1023);
}

TEST(SpawnDeathTest, DestroyingALoopUnderATaskEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        ManualClock clock;
        auto loop = std::make_unique<Loop>(clock);
        auto* completion = new Completion(loop->ready());
        loop->spawn(wait_for(*completion));
        loop.reset();
      },
      "a Loop was destroyed under a running task");
}

}  // namespace
}  // namespace membrain
