#include "transport/loop.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <dirent.h>
#include <array>
#include <memory>
#include <optional>
#include <vector>

namespace membrain {
namespace {

using std::chrono::milliseconds;

class LoopTest : public testing::Test {
 protected:
  ManualClock clock_;
  Loop loop_{clock_};
};

TEST_F(LoopTest, TimersFireByTimeAndEqualTimesInTheOrderOfArming) {
  std::vector<int> fired;
  std::vector<std::unique_ptr<Timer>> timers;
  const std::vector<int> due = {30, 10, 20, 10, 0, 30};
  for (int i = 0; i < 6; ++i) {
    timers.push_back(std::make_unique<Timer>(loop_, [&fired, i] { fired.push_back(i); }));
    timers.back()->arm(clock_.now() + milliseconds(due[static_cast<std::size_t>(i)]));
  }
  EXPECT_TRUE(loop_.turn());
  EXPECT_EQ(fired, (std::vector<int>{4}));
  EXPECT_EQ(loop_.next_timer(), clock_.now() + milliseconds(10));
  clock_.advance(milliseconds(100));
  EXPECT_TRUE(loop_.turn());
  EXPECT_EQ(fired, (std::vector<int>{4, 1, 3, 2, 0, 5}));
  EXPECT_FALSE(loop_.turn());
  EXPECT_EQ(loop_.next_timer(), std::nullopt);
}

TEST_F(LoopTest, ATimerThatWasCancelledOrDestroyedDoesNotFire) {
  int fired = 0;
  Timer cancelled(loop_, [&] { ++fired; });
  auto destroyed = std::make_unique<Timer>(loop_, [&] { ++fired; });
  Timer kept(loop_, [&] { fired += 100; });
  cancelled.arm(clock_.now() + milliseconds(1));
  destroyed->arm(clock_.now() + milliseconds(2));
  kept.arm(clock_.now() + milliseconds(3));
  EXPECT_TRUE(cancelled.armed());
  cancelled.cancel();
  EXPECT_FALSE(cancelled.armed());
  cancelled.cancel();
  destroyed.reset();
  EXPECT_EQ(loop_.next_timer(), clock_.now() + milliseconds(3));
  clock_.advance(milliseconds(5));
  loop_.turn();
  EXPECT_EQ(fired, 100);
}

TEST_F(LoopTest, ATimerArmedAgainFiresOnceAtTheLaterArming) {
  int fired = 0;
  Timer timer(loop_, [&] { ++fired; });
  for (int i = 0; i < 1000; ++i) timer.arm(clock_.now() + milliseconds(1 + i % 7));
  timer.arm(clock_.now() + milliseconds(50));
  clock_.advance(milliseconds(49));
  loop_.turn();
  EXPECT_EQ(fired, 0);
  timer.arm(clock_.now());
  loop_.turn();
  EXPECT_EQ(fired, 1);
  clock_.advance(milliseconds(100));
  loop_.turn();
  EXPECT_EQ(fired, 1);
}

TEST_F(LoopTest, TimersThatAlwaysArmThemselvesAgainStarveNobody) {
  int eager = 0;
  int modest = 0;
  Timer first(loop_, [] {});
  first.set_fire([&] {
    ++eager;
    first.arm(TimePoint{});  // long past
  });
  Timer second(loop_, [&] { ++modest; });
  first.arm(clock_.now());
  second.arm(clock_.now());
  loop_.turn();
  EXPECT_EQ(eager, 1);
  EXPECT_EQ(modest, 1);
  loop_.turn();
  EXPECT_EQ(eager, 2);
}

TEST_F(LoopTest, ManyTimersArmedMovedAndCancelledAtRandomFireInOrder) {
  struct Expected {
    std::optional<TimePoint> when;
  };
  constexpr std::size_t kTimers = 300;
  std::vector<Expected> expected(kTimers);
  std::vector<std::unique_ptr<Timer>> timers;
  TimePoint last{};
  for (std::size_t i = 0; i < kTimers; ++i) {
    timers.push_back(std::make_unique<Timer>(loop_, [&, i] {
      ASSERT_TRUE(expected[i].when);
      EXPECT_LE(*expected[i].when, loop_.now());
      EXPECT_GE(*expected[i].when, last);
      last = *expected[i].when;
      expected[i].when.reset();
    }));
  }
  std::uint64_t random = 12345;
  for (int round = 0; round < 20'000; ++round) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    const std::size_t i = (random >> 33) % kTimers;
    const auto wait = milliseconds((random >> 20) % 50);
    if (random % 5 == 0) {
      timers[i]->cancel();
      expected[i].when.reset();
    } else {
      timers[i]->arm(clock_.now() + wait);
      expected[i].when = clock_.now() + wait;
    }
    if (round % 50 == 0) {
      clock_.advance(milliseconds(1));
      last = TimePoint{};
      loop_.turn();
    }
  }
  for (std::size_t i = 0; i < kTimers; ++i) {
    EXPECT_EQ(timers[i]->armed(), expected[i].when.has_value());
  }
}

Task<> sleeper(Loop& loop, Duration nap, int naps, std::vector<TimePoint>& woken) {
  for (int i = 0; i < naps; ++i) {
    co_await loop.sleep_until(loop.now() + nap);
    woken.push_back(loop.now());
  }
}

TEST_F(LoopTest, ACoroutineSleepsUntilItsTime) {
  const TimePoint start = clock_.now();
  std::vector<TimePoint> woken;
  loop_.spawn(sleeper(loop_, milliseconds(10), 3, woken));
  for (int i = 0; i < 40; ++i) {
    loop_.turn();
    clock_.advance(milliseconds(1));
  }
  EXPECT_EQ(woken, (std::vector<TimePoint>{start + milliseconds(10), start + milliseconds(20),
                                           start + milliseconds(30)}));
  EXPECT_EQ(loop_.running_tasks(), 0u);
}

TEST_F(LoopTest, ASleepUntilThePastDoesNotSuspend) {
  std::vector<TimePoint> woken;
  loop_.spawn(sleeper(loop_, milliseconds(0), 3, woken));
  EXPECT_EQ(woken.size(), 3u);
}

class CountingSource final : public Source {
 public:
  bool progress() override {
    ++progressed;
    if (leave != nullptr) leave->remove_source(*this);
    return busy;
  }
  [[nodiscard]] int event_fd() const noexcept override { return -1; }
  [[nodiscard]] bool arm() noexcept override { return true; }

  int progressed = 0;
  bool busy = false;
  Loop* leave = nullptr;
};

TEST_F(LoopTest, EverySourceIsProgressedInEveryTurnUntilItIsRemoved) {
  CountingSource first;
  CountingSource second;
  loop_.add_source(first);
  loop_.add_source(second);
  EXPECT_FALSE(loop_.turn());
  second.busy = true;
  EXPECT_TRUE(loop_.turn());
  first.leave = &loop_;
  loop_.turn();
  loop_.turn();
  EXPECT_EQ(first.progressed, 3);
  EXPECT_EQ(second.progressed, 4);
  loop_.remove_source(second);
  EXPECT_FALSE(loop_.turn());
  EXPECT_EQ(second.progressed, 4);
}

/// A pipe whose reading end is watched.
class Pipe final : public FdHandler {
 public:
  explicit Pipe(Loop& loop) : loop_(loop) { EXPECT_EQ(::pipe(ends_.data()), 0); }
  ~Pipe() {
    loop_.unwatch(read_end());
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  void on_ready(std::uint32_t) override {
    ++called;
    std::array<char, 16> bytes{};
    got += ::read(read_end(), bytes.data(), bytes.size());
    if (silence != nullptr) loop_.unwatch(silence->read_end());
  }
  void put() const { EXPECT_EQ(::write(ends_[1], "x", 1), 1); }
  [[nodiscard]] int read_end() const { return ends_[0]; }

  int called = 0;
  ssize_t got = 0;
  Pipe* silence = nullptr;

 private:
  Loop& loop_;
  std::array<int, 2> ends_{};
};

TEST_F(LoopTest, AHandlerIsCalledWhenItsDescriptorIsReadyAndNotAfterUnwatch) {
  Pipe pipe(loop_);
  ASSERT_TRUE(loop_.watch(pipe.read_end(), EPOLLIN, pipe));
  EXPECT_FALSE(loop_.turn());
  pipe.put();
  EXPECT_TRUE(loop_.turn());
  EXPECT_EQ(pipe.called, 1);
  EXPECT_EQ(pipe.got, 1);
  EXPECT_FALSE(loop_.turn());
  loop_.unwatch(pipe.read_end());
  pipe.put();
  EXPECT_FALSE(loop_.turn());
  EXPECT_EQ(pipe.called, 1);
}

TEST_F(LoopTest, ABusyLoopPollsItsDescriptorsWithinABoundedNumberOfTurns) {
  Pipe pipe(loop_);
  ASSERT_TRUE(loop_.watch(pipe.read_end(), EPOLLIN, pipe));
  CountingSource source;
  source.busy = true;
  loop_.add_source(source);
  pipe.put();
  for (int i = 0; i < 32; ++i) EXPECT_TRUE(loop_.turn());
  EXPECT_EQ(pipe.called, 1);
  loop_.remove_source(source);
}

TEST_F(LoopTest, AHandlerMayUnwatchOneThatIsReadyInTheSameTurn) {
  Pipe first(loop_);
  Pipe second(loop_);
  first.silence = &second;
  second.silence = &first;
  ASSERT_TRUE(loop_.watch(first.read_end(), EPOLLIN, first));
  ASSERT_TRUE(loop_.watch(second.read_end(), EPOLLIN, second));
  first.put();
  second.put();
  loop_.turn();
  loop_.turn();
  EXPECT_EQ(first.called + second.called, 1);
}

TEST_F(LoopTest, WatchingNothingIsRefused) {
  Pipe pipe(loop_);
  const Result<> refused = loop_.watch(-1, EPOLLIN, pipe);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::invalid_argument);
}

std::size_t open_descriptors() {
  std::size_t count = 0;
  DIR* const folder = ::opendir("/proc/self/fd");
  while (::readdir(folder) != nullptr) ++count;
  ::closedir(folder);
  return count;
}

TEST(Loop, OneThatOnlyTurnsOpensNoDescriptor) {
  const std::size_t before = open_descriptors();
  ManualClock clock;
  std::vector<std::unique_ptr<Loop>> loops;
  for (int i = 0; i < 5000; ++i) {
    loops.push_back(std::make_unique<Loop>(clock));
    loops.back()->turn();
    loops.back()->wake();
  }
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace membrain
