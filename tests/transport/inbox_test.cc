#include "transport/inbox.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace membrain {
namespace {

TEST(Inbox, RunsJobsInTheOrderInWhichTheyWerePosted) {
  Inbox inbox;
  std::vector<int> order;
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(inbox.post([&order, i] { order.push_back(i); }));
  EXPECT_FALSE(inbox.empty());
  EXPECT_TRUE(inbox.run());
  EXPECT_TRUE(inbox.empty());
  EXPECT_FALSE(inbox.run());
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST(Inbox, WhatAJobPostsWaitsForTheNextRun) {
  Inbox inbox;
  int runs = 0;
  ASSERT_TRUE(inbox.post([&] {
    ++runs;
    ASSERT_TRUE(inbox.post([&] { ++runs; }));
  }));
  inbox.run();
  EXPECT_EQ(runs, 1);
  inbox.run();
  EXPECT_EQ(runs, 2);
}

TEST(Inbox, JobsNeverRunAreDestroyedWithIt) {
  const auto witness = std::make_shared<int>(0);
  {
    Inbox inbox;
    ASSERT_TRUE(inbox.post([witness] { ++*witness; }));
  }
  EXPECT_EQ(witness.use_count(), 1);
  EXPECT_EQ(*witness, 0);
}

TEST(Inbox, RefusesMoreThanItsBound) {
  Inbox inbox;
  for (std::size_t i = 0; i < Inbox::kMaxJobs; ++i) ASSERT_TRUE(inbox.post([] {}));
  const Result<> refused = inbox.post([] {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::out_of_capacity);
  inbox.run();
  EXPECT_TRUE(inbox.post([] {}));
}

class CountingWaker final : public Inbox::Waker {
 public:
  void wake() noexcept override { ++wakes; }
  std::atomic<int> wakes = 0;
};

TEST(Inbox, WakesOnlyWhenItWasEmpty) {
  CountingWaker waker;
  Inbox inbox;
  inbox.set_waker(&waker);
  ASSERT_TRUE(inbox.post([] {}));
  ASSERT_TRUE(inbox.post([] {}));
  EXPECT_EQ(waker.wakes, 1);
  inbox.run();
  ASSERT_TRUE(inbox.post([] {}));
  EXPECT_EQ(waker.wakes, 2);
}

TEST(Inbox, KeepsEveryThreadsJobsInThatThreadsOrder) {
  constexpr int kThreads = 4;
  constexpr int kJobs = 20'000;
  Inbox inbox;
  std::vector<int> next(kThreads, 0);  // touched by jobs only
  int ran = 0;
  bool in_order = true;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kJobs; ++i) {
        const Result<> posted = inbox.post([&, t, i] {
          in_order = in_order && next[static_cast<std::size_t>(t)]++ == i;
          ++ran;
        });
        ASSERT_TRUE(posted);
      }
    });
  }
  while (ran < kThreads * kJobs) {
    if (!inbox.run()) std::this_thread::yield();
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(in_order);
  EXPECT_FALSE(inbox.run());
}

}  // namespace
}  // namespace membrain
