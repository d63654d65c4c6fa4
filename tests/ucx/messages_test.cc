// Messages and payloads between two fabrics of one process, over every lane.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <list>

#include "tests/ucx/party.h"
#include "transport/ucx/connection.h"

namespace membrain::ucx_test {
namespace {

class UcxMessages : public testing::TestWithParam<Lane> {
 protected:
  /// Sends `from` from b and receives it into `into` at a, in pieces on either side.
  void move(std::span<const Segment> from, std::span<const Segment> into) {
    Completion sent(pair_.b.loop().ready());
    Completion received(pair_.a.loop().ready());
    pair_.b.fabric().send(pair_.to_a, as_bytes("block"), from, sent);
    ASSERT_TRUE(pair_.turn_until([&] { return !pair_.a.messages.empty(); }));
    EXPECT_EQ(pair_.a.messages.front().frame, "block");
    Payload payload = std::move(pair_.a.messages.front().payload);
    pair_.a.messages.clear();
    pair_.a.fabric().receive(std::move(payload), into, received);
    ASSERT_TRUE(pair_.turn_until([&] { return sent.done() && received.done(); }));
    EXPECT_TRUE(sent.outcome());
    EXPECT_TRUE(received.outcome());
  }

  Pair pair_{GetParam()};
};

TEST_P(UcxMessages, UseTheLaneThatTheirTransportsAllow) {
  EXPECT_EQ(pair_.a.fabric().lane(pair_.to_b), GetParam().kind);
  EXPECT_EQ(pair_.b.fabric().lane(pair_.to_a), GetParam().kind);
  EXPECT_NE(pair_.a.fabric().route(pair_.to_b).find("then"), std::string::npos)
      << pair_.a.fabric().route(pair_.to_b);
}

TEST_P(UcxMessages, ShareABindingThatIsNotZero) {
  const auto binding = pair_.a.fabric().binding(pair_.to_b);
  EXPECT_EQ(binding, pair_.b.fabric().binding(pair_.to_a));
  EXPECT_NE(binding, (std::array<std::byte, 32>{}));
}

TEST_P(UcxMessages, ArriveOnceAndInOrderWhateverTheirSize) {
  constexpr std::size_t kSizes[] = {0, 1, 100, 4000, 4096, 4097, 70'000, 256 * 1024};
  constexpr std::size_t kCount = 400;
  for (std::size_t i = 0; i < kCount; ++i) {
    const std::vector<std::byte> frame = pattern(kSizes[i % std::size(kSizes)], i);
    ASSERT_TRUE(pair_.a.fabric().send(pair_.to_b, frame));
  }
  ASSERT_TRUE(pair_.turn_until([&] { return pair_.b.messages.size() >= kCount; }));
  for (std::size_t i = 0; i < kCount; ++i) {
    const std::vector<std::byte> frame = pattern(kSizes[i % std::size(kSizes)], i);
    const std::string& got = pair_.b.messages[i].frame;
    ASSERT_EQ(got.size(), frame.size());
    ASSERT_TRUE(std::equal(frame.begin(), frame.end(), std::as_bytes(std::span(got)).begin()));
    EXPECT_EQ(pair_.b.messages[i].peer, pair_.to_a);
  }
  EXPECT_EQ(pair_.b.messages.size(), kCount);
}

TEST_P(UcxMessages, OfTooManyBytesAreRefused) {
  const std::vector<std::byte> frame(Fabric::kMaxFrameBytes + 1);
  EXPECT_EQ(pair_.a.fabric().send(pair_.to_b, frame).error().code, Errc::invalid_argument);
}

TEST_P(UcxMessages, ToAnUnknownPeerEndWithPeerLost) {
  EXPECT_EQ(pair_.a.fabric().send(PeerId{77}, as_bytes("x")).error().code, Errc::peer_lost);
  std::vector<std::byte> block(100);
  const Segment segment = all_of(block);
  Completion done(pair_.a.loop().ready());
  pair_.a.fabric().send(PeerId{77}, as_bytes("x"), {&segment, 1}, done);
  EXPECT_TRUE(done.done());
  EXPECT_EQ(done.outcome().error().code, Errc::peer_lost);
}

TEST_P(UcxMessages, BringTheirPayload) {
  const std::size_t last_eager = Connection::kEagerBytes;
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{1000}, std::size_t{65'536}, std::size_t{300'000}, last_eager,
        last_eager + 1, std::size_t{5'000'001}}) {
    std::vector<std::byte> from = pattern(size, size);
    std::vector<std::byte> into(size);
    const Segment source = all_of(from);
    const Segment sink = all_of(into);
    move({&source, 1}, {&sink, 1});
    EXPECT_EQ(from, into) << size;
  }
}

TEST_P(UcxMessages, BringAPayloadFromPiecesIntoPieces) {
  for (const std::size_t size : {3000u, 100'000u, 2'000'000u}) {
    std::vector<std::byte> from = pattern(size, size);
    std::vector<std::byte> into(size);
    std::vector<Segment> sources;
    std::vector<Segment> sinks;
    // The odd ones first, so that neighbours in the list are not neighbours in memory.
    const std::size_t piece = size / 10;
    for (const std::size_t first : {1u, 0u}) {
      for (std::size_t i = first; i < 10; i += 2) {
        sources.push_back({from.data() + i * piece, piece});
        sinks.push_back({into.data() + i * piece, piece});
      }
    }
    sinks.push_back({nullptr, 0});
    move(sources, sinks);
    EXPECT_EQ(from, into) << size;
  }
}

TEST_P(UcxMessages, BringAPayloadBetweenRegions) {
  std::vector<std::byte> from = pattern(4u << 20, 1);
  std::vector<std::byte> into(from.size());
  const auto source_region = pair_.b.fabric().register_memory(from).value();
  const auto sink_region = pair_.a.fabric().register_memory(into).value();
  EXPECT_EQ(source_region->memory().data(), from.data());
  constexpr std::size_t kPart = 1u << 20;
  for (std::size_t at = 0; at < from.size(); at += kPart) {
    const Segment source{from.data() + at, kPart, source_region.get()};
    const Segment sink{into.data() + at, kPart, sink_region.get()};
    move({&source, 1}, {&sink, 1});
  }
  EXPECT_EQ(from, into);
}

TEST_P(UcxMessages, WithoutABytesOfPayloadAreFrames) {
  Completion sent(pair_.b.loop().ready());
  const Segment nothing{};
  pair_.b.fabric().send(pair_.to_a, as_bytes("x"), {&nothing, 1}, sent);
  ASSERT_TRUE(pair_.turn_until([&] { return pair_.a.messages.size() == 1; }));
  EXPECT_TRUE(sent.done());
  EXPECT_EQ(pair_.a.messages.front().payload.size(), 0u);
}

TEST_P(UcxMessages, WhosePayloadIsDiscardedGiveItsMemoryBack) {
  for (const std::size_t size : {1000u, 1u << 20, 2u << 20}) {
    std::vector<std::byte> from = pattern(size, 3);
    const Segment source = all_of(from);
    Completion sent(pair_.b.loop().ready());
    pair_.b.fabric().send(pair_.to_a, as_bytes("unwanted"), {&source, 1}, sent);
    ASSERT_TRUE(pair_.turn_until([&] { return pair_.a.messages.size() == 1; }));
    pair_.a.messages.clear();
    ASSERT_TRUE(pair_.turn_until([&] { return sent.done(); }));
  }
}

TEST_P(UcxMessages, LandNowhereBeforeTheyAreReceived) {
  for (const std::size_t size : {4096u, 1u << 20, 2u << 20}) {
    std::vector<std::byte> from = pattern(size, 5);
    std::vector<std::byte> into(size, std::byte{9});
    const Segment source = all_of(from);
    Completion sent(pair_.b.loop().ready());
    pair_.b.fabric().send(pair_.to_a, as_bytes("later"), {&source, 1}, sent);
    ASSERT_TRUE(pair_.b.fabric().send(pair_.to_a, as_bytes("sooner")));
    ASSERT_TRUE(pair_.turn_until([&] { return pair_.a.messages.size() == 2; }));
    EXPECT_EQ(into, std::vector<std::byte>(size, std::byte{9}));
    const bool eager = sent.done();
    if (eager) std::fill(from.begin(), from.end(), std::byte{0});  // the sender's again
    Completion received(pair_.a.loop().ready());
    const Segment sink = all_of(into);
    pair_.a.fabric().receive(std::move(pair_.a.messages.front().payload), {&sink, 1}, received);
    ASSERT_TRUE(pair_.turn_until([&] { return received.done() && sent.done(); }));
    EXPECT_EQ(into, pattern(size, 5)) << size;
    pair_.a.messages.clear();
  }
}

TEST_P(UcxMessages, ThatNobodyReceivesBreakTheirConnectionBeforeTheyFillTheMemory) {
  if (GetParam().kind != "tcp") GTEST_SKIP() << "large ones stay with the sender";
  constexpr std::size_t kMessages = Connection::kMaxHeldBytes / Connection::kEagerBytes + 1;
  std::vector<std::byte> from = pattern(Connection::kEagerBytes, 6);
  const Segment source = all_of(from);
  std::list<Completion> sent;
  for (std::size_t i = 0; i < kMessages; ++i) {
    sent.emplace_back(pair_.b.loop().ready());
    pair_.b.fabric().send(pair_.to_a, as_bytes("more"), {&source, 1}, sent.back());
  }
  ASSERT_TRUE(pair_.turn_until([&] { return pair_.a.lost.size() == 1; }));
  EXPECT_EQ(pair_.a.messages.size(), kMessages - 1);
  EXPECT_TRUE(pair_.turn_until([&] {
    return pair_.b.lost.size() == 1 &&
           std::all_of(sent.begin(), sent.end(), [](const Completion& one) { return one.done(); });
  }));
}

TEST_P(UcxMessages, MoveAThousandBlocksWithEveryByteInPlace) {
  constexpr std::size_t kBlocks = 1000;
  constexpr std::size_t kWindow = 8;
  constexpr std::size_t kBytes = 200'000;
  std::vector<std::vector<std::byte>> from;
  for (std::size_t i = 0; i < kWindow; ++i) from.push_back(pattern(kBytes, i));
  std::vector<std::byte> into(kBytes);
  for (std::size_t done = 0; done < kBlocks; done += kWindow) {
    Completion sent(pair_.b.loop().ready(), kWindow);
    for (std::vector<std::byte>& block : from) {
      const Segment source = all_of(block);
      pair_.b.fabric().send(pair_.to_a, as_bytes("block"), {&source, 1}, sent);
    }
    ASSERT_TRUE(pair_.turn_until([&] { return pair_.a.messages.size() == kWindow; }));
    for (std::size_t i = 0; i < kWindow; ++i) {
      std::fill(into.begin(), into.end(), std::byte{0});
      const Segment sink = all_of(into);
      Completion received(pair_.a.loop().ready());
      pair_.a.fabric().receive(std::move(pair_.a.messages[i].payload), {&sink, 1}, received);
      ASSERT_TRUE(pair_.turn_until([&] { return received.done(); }));
      ASSERT_TRUE(received.outcome());
      ASSERT_EQ(into, from[i]);
    }
    pair_.a.messages.clear();
    ASSERT_TRUE(pair_.turn_until([&] { return sent.done(); }));
  }
}

/// Unreliable datagrams hold one packet: where a network has them, headers are short for everybody.
class UcxNarrowMessages : public testing::Test {
 protected:
  UcxNarrowMessages() { set("1k"); }
  ~UcxNarrowMessages() override { set("512k"); }
  static void set(const char* bytes) {
    ::setenv("UCX_TCP_TX_SEG_SIZE", bytes, 1);
    ::setenv("UCX_TCP_RX_SEG_SIZE", bytes, 1);
  }
};

TEST_F(UcxNarrowMessages, BringFramesOfEverySizeInOrder) {
  Pair pair(tcp_lane());
  constexpr std::size_t kSizes[] = {0, 1, 800, 1000, 1100, 4096, 4097, 200'000};
  constexpr std::size_t kCount = 80;
  for (std::size_t i = 0; i < kCount; ++i) {
    ASSERT_TRUE(pair.a.fabric().send(pair.to_b, pattern(kSizes[i % std::size(kSizes)], i)));
  }
  ASSERT_TRUE(pair.turn_until([&] { return pair.b.messages.size() >= kCount; }));
  for (std::size_t i = 0; i < kCount; ++i) {
    const std::vector<std::byte> frame = pattern(kSizes[i % std::size(kSizes)], i);
    ASSERT_TRUE(std::ranges::equal(std::as_bytes(std::span(pair.b.messages[i].frame)), frame));
  }
}

TEST_F(UcxNarrowMessages, BringPayloadsWithFramesThatDoNotFitBesideThem) {
  Pair pair(tcp_lane());
  std::vector<std::byte> from = pattern(300'000, 1);
  for (const std::size_t size : {std::size_t{10}, std::size_t{1100}, std::size_t{4096}}) {
    const std::vector<std::byte> frame = pattern(size, size);
    const Segment source = all_of(from);
    Completion sent(pair.b.loop().ready());
    pair.b.fabric().send(pair.to_a, frame, {&source, 1}, sent);
    ASSERT_TRUE(pair.b.fabric().send(pair.to_a, as_bytes("next")));
    ASSERT_TRUE(pair.turn_until([&] { return pair.a.messages.size() == 2; }));
    Message& first = pair.a.messages.front();
    ASSERT_EQ(first.frame.size(), size);
    EXPECT_TRUE(std::ranges::equal(std::as_bytes(std::span(first.frame)), frame));
    EXPECT_EQ(pair.a.messages.back().frame, "next");
    EXPECT_EQ(pair.a.messages.back().payload.size(), 0u);
    std::vector<std::byte> into(from.size());
    const Segment sink = all_of(into);
    Completion received(pair.a.loop().ready());
    pair.a.fabric().receive(std::move(first.payload), {&sink, 1}, received);
    ASSERT_TRUE(pair.turn_until([&] { return received.done() && sent.done(); }));
    EXPECT_EQ(into, from);
    pair.a.messages.clear();
  }
}

INSTANTIATE_TEST_SUITE_P(Lanes, UcxMessages, testing::ValuesIn(every_lane()),
                         [](const auto& lane) { return lane.param.name; });

}  // namespace
}  // namespace membrain::ucx_test
