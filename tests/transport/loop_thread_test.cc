// The loop with real threads and real time.
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "transport/loop.h"

namespace membrain {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

/// A loop on a thread of its own. Its longest sleep is longer than any test: a lost wake-up hangs.
class LoopThread {
 public:
  explicit LoopThread(LoopConfig config = {std::chrono::microseconds(20), hours(1)})
      : loop_(clock_, config), thread_([this] { loop_.run(); }) {}
  ~LoopThread() {
    loop_.stop();
    thread_.join();
  }
  Loop& loop() { return loop_; }

 private:
  SteadyClock clock_;
  Loop loop_;
  std::thread thread_;
};

/// Waits without a bound of its own: ctest's time limit is the bound.
template <class Condition>
void await(Condition holds) {
  while (!holds()) std::this_thread::yield();
}

TEST(LoopThread, IsWokenByEveryPostHoweverDeepItSleeps) {
  LoopThread thread(LoopConfig{Duration::zero(), hours(1)});  // sleeps at once
  for (int i = 0; i < 20'000; ++i) {
    std::atomic<bool> ran = false;
    ASSERT_TRUE(thread.loop().inbox().post([&] { ran = true; }));
    await([&] { return ran.load(); });
  }
}

TEST(LoopThread, LosesNoPostOfSeveralThreads) {
  constexpr int kThreads = 3;
  constexpr int kJobs = 5000;
  LoopThread thread(LoopConfig{Duration::zero(), hours(1)});
  std::atomic<int> ran = 0;
  std::vector<std::thread> posters;
  for (int t = 0; t < kThreads; ++t) {
    posters.emplace_back([&] {
      for (int i = 0; i < kJobs; ++i) {
        ASSERT_TRUE(thread.loop().inbox().post([&] { ++ran; }));
        if (i % 64 == 0) std::this_thread::yield();
      }
    });
  }
  for (std::thread& poster : posters) poster.join();
  await([&] { return ran == kThreads * kJobs; });
}

TEST(LoopThread, StopEndsASleepAndAStopBeforeRunIsNotLost) {
  SteadyClock clock;
  Loop loop(clock, {Duration::zero(), hours(1)});
  loop.stop();
  loop.run();
  std::thread thread([&] { loop.run(); });
  loop.stop();
  thread.join();
}

TEST(LoopThread, AWakeBeforeTheSleepEndsItToo) {
  SteadyClock clock;
  Loop loop(clock, {Duration::zero(), hours(1)});
  loop.wake();
  loop.wait(hours(1));
  EXPECT_FALSE(loop.turn());
}

TEST(LoopThread, WaitReturnsAtOnceWhenTheInboxHasAJob) {
  SteadyClock clock;
  Loop loop(clock, {Duration::zero(), hours(1)});
  bool ran = false;
  ASSERT_TRUE(loop.inbox().post([&] { ran = true; }));
  loop.wait(hours(1));
  EXPECT_TRUE(loop.turn());
  EXPECT_TRUE(ran);
}

TEST(LoopThread, ASleepingLoopWakesForItsTimer) {
  SteadyClock clock;
  Loop loop(clock, {Duration::zero(), hours(1)});
  const TimePoint due = clock.now() + milliseconds(5);
  Timer timer(loop, [&] { loop.stop(); });
  timer.arm(due);
  loop.run();
  EXPECT_GE(clock.now(), due);
}

TEST(LoopThread, WaitNeverSleepsLongerThanTheLongestSleep) {
  SteadyClock clock;
  Loop loop(clock, {Duration::zero(), milliseconds(2)});
  loop.wait(hours(1));
  SUCCEED();
}

/// A source like a UCX worker: an event descriptor, and work that is counted elsewhere.
class EventSource final : public Source {
 public:
  EventSource() : fd_(::eventfd(0, EFD_NONBLOCK)) {}
  ~EventSource() override { ::close(fd_); }
  bool progress() override {
    if (submitted_.load() == done_) return false;
    ++done_;
    if (done_ == until_) loop_->stop();
    return true;
  }
  [[nodiscard]] int event_fd() const noexcept override { return fd_; }
  [[nodiscard]] bool arm() noexcept override {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(fd_, &count, sizeof count);
    return submitted_.load() == done_;
  }
  void submit() {
    submitted_.fetch_add(1);
    const std::uint64_t one = 1;
    EXPECT_EQ(::write(fd_, &one, sizeof one), static_cast<ssize_t>(sizeof one));
  }
  void stop_after(int until, Loop& loop) {
    until_ = until;
    loop_ = &loop;
  }

 private:
  int fd_;
  std::atomic<int> submitted_ = 0;
  int done_ = 0;
  int until_ = 0;
  Loop* loop_ = nullptr;
};

TEST(LoopThread, ASourcesDescriptorEndsASleepAndItsArmPreventsOne) {
  constexpr int kJobs = 5000;
  SteadyClock clock;
  Loop loop(clock, {Duration::zero(), hours(1)});
  EventSource source;
  loop.add_source(source);
  source.stop_after(kJobs, loop);
  std::thread submitter([&] {
    for (int i = 0; i < kJobs; ++i) {
      source.submit();
      if (i % 16 == 0) std::this_thread::yield();
    }
  });
  loop.run();
  submitter.join();
  loop.remove_source(source);
}

TEST(LoopThread, AJobMayEndTheLifeOfTheLoopWhileItsPosterReturns) {
  for (int i = 0; i < 500; ++i) {
    SteadyClock clock;
    auto loop = std::make_unique<Loop>(clock, LoopConfig{Duration::zero(), hours(1)});
    std::thread poster([&inbox = loop->inbox(), raw = loop.get()] {
      ASSERT_TRUE(inbox.post([raw] { raw->stop(); }));
    });
    loop->run();
    loop.reset();
    poster.join();
  }
}

TEST(LoopThread, WhoSetsAFlagAndWakesTheLoopIsSeen) {
  SteadyClock clock;
  Loop loop(clock, {std::chrono::microseconds(20), hours(1)});
  std::atomic<bool> flag = false;
  std::thread waker([&] {
    flag = true;
    loop.wake();
  });
  while (!flag) loop.wait(hours(1));
  waker.join();
}

}  // namespace
}  // namespace membrain
