// A connection's first message, and peers that do not say it.
#include <gtest/gtest.h>

#include "tests/ucx/party.h"

namespace membrain::ucx_test {
namespace {

class UcxHello : public testing::TestWithParam<Lane> {
 protected:
  struct Outcome {
    bool connected = false;
    bool given_up = false;  ///< and closed once the peer went on
  };
  /// The peer stops after so many turns, until the caller has an answer.
  Outcome stop_after(int turns) {
    Party a(context_);
    Party b(peer_context_);
    const Address address = b.fabric().listen("127.0.0.1:0").value();
    std::optional<Result<PeerId>> got;
    const TimePoint deadline = a.clock().now() + patience_;
    a.loop().turn();
    a.loop().spawn(connect_into(a.fabric(), address, deadline, got));
    for (int i = 0; i < turns && !got; ++i) {
      a.loop().turn();
      b.loop().turn();
    }
    EXPECT_TRUE(drive({&a}, [&] { return got.has_value(); }));
    Outcome outcome;
    outcome.connected = got && *got;
    if (outcome.connected) {
      EXPECT_TRUE(close(a, **got, {&b}));
    } else {
      EXPECT_EQ(got->error().code, Errc::timed_out);
      EXPECT_GE(a.clock().now(), deadline);
    }
    outcome.given_up = drive(
        {&a, &b}, [&] { return !b.lost.empty(); }, milliseconds(200));
    expect_service(a, b, address);
    EXPECT_TRUE(a.lost.empty());
    return outcome;
  }
  static void expect_service(Party& a, Party& b, const Address& address) {
    const Result<PeerId> peer = connect(a, address, {&b});
    ASSERT_TRUE(peer.has_value());
    ASSERT_TRUE(a.fabric().send(*peer, as_bytes("still there?")));
    ASSERT_TRUE(drive({&a, &b}, [&] { return b.messages.size() == 1; }));
    ASSERT_TRUE(b.fabric().send(b.messages.front().peer, as_bytes("yes")));
    ASSERT_TRUE(drive({&a, &b}, [&] { return a.messages.size() == 1; }));
    ASSERT_TRUE(close(a, *peer, {&b}));
  }

  static bool rdma() { return GetParam().kind == "rdma"; }
  const Duration patience_ = milliseconds(rdma() ? 1000 : 150);
  std::shared_ptr<UcxContext> context_ = make_context(GetParam(), GetParam().devices);
  std::shared_ptr<UcxContext> peer_context_ = make_context(GetParam(), GetParam().peer_devices);
};

TEST_P(UcxHello, IsAwaitedUntilTheDeadlineWhereverThePeerStops) {
  int connected = 0;
  int given_up = 0;
  const int every = rdma() ? 1 : 12;  // of the first turns
  for (int turns = 0; turns < 1 << 20 && connected == 0;
       turns = turns < every ? turns + 1 : turns * 4) {
    const Outcome outcome = stop_after(turns);
    connected += outcome.connected ? 1 : 0;
    given_up += !outcome.connected && outcome.given_up ? 1 : 0;
    ASSERT_FALSE(HasFailure()) << "after " << turns << " turns";
  }
  EXPECT_GT(connected, 0);
  EXPECT_GT(given_up, 0) << "no peer stopped between its contact and its hello";
}

TEST_P(UcxHello, IsNotAwaitedFromAPeerThatEnds) {
  for (int turns = 0; turns < 12; ++turns) {
    Party a(context_);
    auto b = std::make_unique<Party>(peer_context_);
    const Address address = b->fabric().listen("127.0.0.1:0").value();
    std::optional<Result<PeerId>> got;
    a.loop().turn();
    a.loop().spawn(connect_into(a.fabric(), address, a.clock().now() + seconds(20), got));
    for (int i = 0; i < turns; ++i) {
      a.loop().turn();
      b->loop().turn();
    }
    b.reset();
    EXPECT_TRUE(drive(
        {&a}, [&] { return got.has_value(); }, seconds(5)));
    if (got && *got) {
      EXPECT_TRUE(close(a, **got, {}));
    } else if (got) {
      EXPECT_TRUE(got->error().code == Errc::unavailable || got->error().code == Errc::peer_lost);
    }
    ASSERT_FALSE(HasFailure()) << "after " << turns << " turns";
  }
}

INSTANTIATE_TEST_SUITE_P(Lanes, UcxHello, testing::ValuesIn(every_lane()),
                         [](const auto& lane) { return lane.param.name; });

}  // namespace
}  // namespace membrain::ucx_test
