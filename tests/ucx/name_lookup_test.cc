// A name server that does not answer holds nobody up but whoever has asked for the name.
#include "transport/ucx/name_lookup.h"

#include <gtest/gtest.h>
#include <netdb.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <vector>

namespace membrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class NameLookup : public testing::Test {
 protected:
  using Found = std::optional<Result<SocketAddress>>;

  void spawn(Address address, Duration patience, NameLook look, Found& found) {
    loop_.spawn([](Loop& loop, Address what, TimePoint deadline, NameLook by,
                   Found& into) -> Task<> {
      Task<Result<SocketAddress>> looking = look_up(loop, std::move(what), deadline, std::move(by));
      into = co_await looking;
    }(loop_, std::move(address), loop_.now() + patience, std::move(look), found));
  }
  template <class Condition>
  void turn_until(Condition reached) {
    const TimePoint end = clock_.now() + seconds(20);
    while (!reached() && clock_.now() < end) {
      if (!loop_.turn()) loop_.wait(milliseconds(100));
    }
    EXPECT_TRUE(reached());
  }

  SteadyClock clock_;
  Loop loop_{clock_};
};

/// A resolver that answers when it is told to.
struct Slow {
  std::promise<void> told;
  std::shared_future<void> may = told.get_future().share();
  NameLook look = [wait = may](const Address&) {
    wait.wait();
    return resolve("127.0.0.9:80");
  };
};

TEST_F(NameLookup, KnowsNumbersAtOnce) {
  Found found;
  spawn("127.0.0.1:9201", seconds(10), nullptr, found);
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->value().loopback());
  Found local;
  spawn("localhost:1", seconds(10), nullptr, local);
  EXPECT_TRUE(local && local->has_value());
}

TEST_F(NameLookup, RefusesWhatIsNoAddress) {
  Found found;
  spawn("nowhere", seconds(10), nullptr, found);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->error().code, Errc::invalid_argument);
}

TEST_F(NameLookup, TheLoopGoesOnUntilTheNameIsKnown) {
  Slow slow;
  Found found;
  spawn("host:80", seconds(60), slow.look, found);
  bool fired = false;
  Timer timer(loop_, [&fired] { fired = true; });
  timer.arm(loop_.now() + milliseconds(1));
  turn_until([&] { return fired; });
  EXPECT_FALSE(found);
  slow.told.set_value();
  turn_until([&] { return found.has_value(); });
  ASSERT_TRUE(found->has_value());
  EXPECT_TRUE(found->value().loopback());
}

TEST_F(NameLookup, TellsThatANameIsUnknown) {
  Found found;
  spawn(
      "host:80", seconds(60),
      [](const Address&) -> Result<SocketAddress> {
        return fail(Errc::unavailable, "unknown", EAI_AGAIN);
      },
      found);
  turn_until([&] { return found.has_value(); });
  EXPECT_EQ(found->error().native, EAI_AGAIN);
}

TEST_F(NameLookup, EndsAtItsDeadlineAndLetsNobodyAskTooOften) {
  Slow slow;
  std::vector<Found> found(17);
  for (Found& one : found) spawn("host:80", milliseconds(20), slow.look, one);
  turn_until(
      [&] { return std::ranges::all_of(found, [](const Found& one) { return one.has_value(); }); });
  for (std::size_t i = 0; i < 16; ++i) EXPECT_EQ(found[i]->error().code, Errc::timed_out);
  EXPECT_EQ(found[16]->error().code, Errc::out_of_capacity);
  slow.told.set_value();
  turn_until([&] {  // the others have ended by then
    Found again;
    spawn("host:80", seconds(10), slow.look, again);
    turn_until([&] { return again.has_value(); });
    return again->has_value();
  });
}

}  // namespace
}  // namespace membrain
