#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <array>
#include <atomic>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

namespace membrain {
namespace {

TEST(ThreadPool, RunsWhatWasPostedBeforeItStops) {
  std::atomic<int> ran = 0;
  ThreadPool pool("mb-test", 2);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(pool.post([&] { ++ran; }));
  pool.stop();
  EXPECT_EQ(ran, 100);
  EXPECT_FALSE(pool.post([] {}));
  pool.stop();
}

TEST(ThreadPool, WithoutThreadsTakesNothing) {
  ThreadPool none("mb-test", 0);
  EXPECT_FALSE(none.post([] {}));
}

TEST(ThreadPool, KeepsTheOrderWithOneThread) {
  std::vector<int> order;
  ThreadPool pool("mb-test", 1);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(pool.post([&order, i] { order.push_back(i); }));
  pool.stop();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(ThreadPool, JobsRunBesideEachOther) {
  std::latch both(2);
  ThreadPool pool("mb-test", 2);
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(pool.post([&] { both.arrive_and_wait(); }));
  pool.stop();  // would wait for ever
}

TEST(ThreadPool, TakesNoMoreThanMayWait) {
  std::latch gate(1);
  std::atomic<std::size_t> ran = 0;
  ThreadPool pool("mb-test", 1);
  std::latch busy(1);
  ASSERT_TRUE(pool.post([&] { busy.count_down(), gate.wait(); }));
  busy.wait();
  for (std::size_t i = 0; i < ThreadPool::kMaxJobs; ++i) ASSERT_TRUE(pool.post([&] { ++ran; }));
  EXPECT_FALSE(pool.post([] {}));
  gate.count_down();
  pool.stop();
  EXPECT_EQ(ran, ThreadPool::kMaxJobs);
}

TEST(ThreadPool, ItsThreadsHaveItsName) {
  std::array<char, 16> name{};
  ThreadPool pool("mb-test", 1);
  ASSERT_TRUE(pool.post([&] { pthread_getname_np(pthread_self(), name.data(), name.size()); }));
  pool.stop();
  EXPECT_STREQ(name.data(), "mb-test");
}

/// Threads that have just run out of work and threads that post, again and again.
TEST(ThreadPool, LosesNoJobOfManyPosters) {
  constexpr int kPosters = 3;
  constexpr int kRounds = 2000;
  std::atomic<int> ran = 0;
  ThreadPool pool("mb-test", 3);
  {
    std::vector<std::jthread> posters;
    for (int i = 0; i < kPosters; ++i) {
      posters.emplace_back([&] {
        for (int round = 0; round < kRounds; ++round) {
          const auto done = std::make_shared<std::latch>(1);  // counting outlives waiting
          ASSERT_TRUE(pool.post([&ran, done] { ++ran, done->count_down(); }));
          done->wait();
        }
      });
    }
  }
  EXPECT_EQ(ran, kPosters * kRounds);
}

}  // namespace
}  // namespace membrain
