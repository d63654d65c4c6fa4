// How connections end: closed, lost, or with their fabric.
#include <gtest/gtest.h>

#include <algorithm>
#include <list>

#include "tests/ucx/party.h"

namespace membrain::ucx_test {
namespace {

/// A lane, and how long the blocks are that travel on it.
struct Blocks {
  Lane lane;
  std::string name;
  std::size_t block;  ///< bytes
};

constexpr std::size_t kLong = 4u << 20;
constexpr std::size_t kShort = 1u << 20;  ///< over TCP it travels with its message

std::vector<Blocks> every_blocks() {
  std::vector<Blocks> all = {{tcp_lane(), "tcp_eager", kShort}};
  for (const Lane& lane : every_lane()) all.push_back({lane, lane.name, kLong});
  return all;
}

class UcxClosing : public testing::TestWithParam<Blocks> {
 protected:
  /// b sends blocks to a, which has not received them yet.
  void offer(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      sources_.push_back(pattern(block_, i));
      sent_.emplace_back(pair_.b.loop().ready());
      const Segment source = all_of(sources_.back());
      pair_.b.fabric().send(pair_.to_a, as_bytes("block"), {&source, 1}, sent_.back());
    }
    ASSERT_TRUE(pair_.turn_until([&] { return pair_.a.messages.size() == count; }));
  }
  /// a begins to receive all that was offered.
  void begin_to_receive() {
    for (Message& message : pair_.a.messages) {
      sinks_.emplace_back(block_);
      received_.emplace_back(pair_.a.loop().ready());
      const Segment sink = all_of(sinks_.back());
      pair_.a.fabric().receive(std::move(message.payload), {&sink, 1}, received_.back());
    }
  }
  bool all_done() const {
    const auto done = [](const Completion& completion) { return completion.done(); };
    return std::all_of(sent_.begin(), sent_.end(), done) &&
           std::all_of(received_.begin(), received_.end(), done);
  }

  const std::size_t block_ = GetParam().block;
  std::list<Completion> sent_;
  std::list<Completion> received_;
  std::list<std::vector<std::byte>> sources_;
  std::list<std::vector<std::byte>> sinks_;
  Pair pair_{GetParam().lane};
};

TEST_P(UcxClosing, EndsEveryReceiveBeforeItIsReported) {
  offer(8);
  begin_to_receive();
  ASSERT_TRUE(close(pair_.a, pair_.to_b, {&pair_.b}));
  for (const Completion& received : received_) EXPECT_TRUE(received.done());
  // Whoever the memory belongs to now: nothing lands in it any more.
  for (std::vector<std::byte>& sink : sinks_) std::fill(sink.begin(), sink.end(), std::byte{7});
  EXPECT_TRUE(pair_.turn_until([&] { return all_done() && pair_.b.lost.size() == 1; }));
  pair_.turn_until([] { return false; }, milliseconds(100));
  for (const std::vector<std::byte>& sink : sinks_) {
    EXPECT_EQ(sink, std::vector<std::byte>(block_, std::byte{7}));
  }
  EXPECT_TRUE(pair_.a.lost.empty());
}

TEST_P(UcxClosing, EndsUnansweredSends) {
  offer(4);
  ASSERT_TRUE(close(pair_.b, pair_.to_a, {&pair_.a}));
  for (const Completion& sent : sent_) EXPECT_TRUE(sent.done());
  EXPECT_TRUE(pair_.turn_until([&] { return pair_.a.lost.size() == 1; }));
  // The payloads of a lost peer are gone, whoever still holds them.
  begin_to_receive();
  ASSERT_TRUE(pair_.turn_until([&] { return all_done(); }));
  for (const Completion& received : received_) {
    EXPECT_EQ(received.outcome().error().code, Errc::peer_lost);
  }
}

TEST_P(UcxClosing, DeliversWhatWasSentBefore) {
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(pair_.a.fabric().send(pair_.to_b, pattern(3000, 1)));
  }
  ASSERT_TRUE(close(pair_.a, pair_.to_b, {&pair_.b}));
  EXPECT_TRUE(pair_.turn_until([&] { return pair_.b.lost.size() == 1; }));
  EXPECT_EQ(pair_.b.messages.size(), 200u);
}

TEST_P(UcxClosing, TellsTheOtherEndOnce) {
  ASSERT_TRUE(close(pair_.a, pair_.to_b, {&pair_.b}));
  ASSERT_TRUE(pair_.turn_until([&] { return !pair_.b.lost.empty(); }));
  pair_.turn_until([] { return false; }, milliseconds(50));
  EXPECT_EQ(pair_.b.lost, std::vector{pair_.to_a});
  EXPECT_TRUE(pair_.a.lost.empty());
  EXPECT_TRUE(close(pair_.b, pair_.to_a, {&pair_.a}));  // of one that is gone: nothing to do
}

TEST_P(UcxClosing, MayBeAskedForByBothEndsAtOnce) {
  offer(2);
  bool a_closed = false;
  bool b_closed = false;
  pair_.a.loop().spawn(close_into(pair_.a.fabric(), pair_.to_b, a_closed));
  pair_.b.loop().spawn(close_into(pair_.b.fabric(), pair_.to_a, b_closed));
  EXPECT_TRUE(pair_.turn_until([&] { return a_closed && b_closed && all_done(); }));
  EXPECT_TRUE(pair_.a.lost.empty());
  EXPECT_TRUE(pair_.b.lost.empty());
}

TEST_P(UcxClosing, LeavesOtherConnectionsAlone) {
  const PeerId second = connect(pair_.a, pair_.address, {&pair_.b}).value();
  EXPECT_NE(second, pair_.to_b);
  ASSERT_TRUE(close(pair_.a, pair_.to_b, {&pair_.b}));
  ASSERT_TRUE(pair_.turn_until([&] { return pair_.b.lost.size() == 1; }));
  ASSERT_TRUE(pair_.a.fabric().send(second, as_bytes("still here")));
  EXPECT_TRUE(pair_.turn_until([&] { return pair_.b.messages.size() == 1; }));
  EXPECT_TRUE(pair_.a.lost.empty());
}

TEST_P(UcxClosing, ComesWithTheFabricsEndUnderTraffic) {
  offer(4);
  begin_to_receive();
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(pair_.a.fabric().send(pair_.to_b, pattern(5000, 1)));
  }
  pair_.a.destroy_fabric();
  for (const Completion& received : received_) EXPECT_TRUE(received.done());
  pair_.b.destroy_fabric();
  EXPECT_TRUE(all_done());
}

TEST_P(UcxClosing, ComesWithTheSendersEndUnderTraffic) {
  offer(4);
  begin_to_receive();
  pair_.b.destroy_fabric();
  EXPECT_TRUE(drive({&pair_.a}, [&] { return all_done() && pair_.a.lost.size() == 1; }));
}

INSTANTIATE_TEST_SUITE_P(Lanes, UcxClosing, testing::ValuesIn(every_blocks()),
                         [](const auto& blocks) { return blocks.param.name; });

}  // namespace
}  // namespace membrain::ucx_test
