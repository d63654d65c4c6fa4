// A sound simulated network keeps the contract of `Fabric`.
#include "transport/sim_fabric.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/transport/sim_party.h"

namespace membrain::sim_test {
namespace {

using SimFabricTest = SimTest;

TEST_F(SimFabricTest, FramesArriveInOrderAndOnce) {
  meet();
  std::vector<std::string> sent;
  for (int i = 0; i < 1000; ++i) {
    sent.push_back("frame " + std::to_string(i));
    ASSERT_TRUE(a_.fabric().send(to_b_, bytes_of(sent.back())));
    if (i % 10 == 0) network_.step();
  }
  settle();
  EXPECT_EQ(b_.frames, sent);
  EXPECT_EQ(b_.last_peer, to_a_);
}

TEST_F(SimFabricTest, FramesTakeVirtualTimeAndAreCopiedWhenSent) {
  meet();
  const TimePoint start = clock_.now();
  std::string text = "before";
  ASSERT_TRUE(a_.fabric().send(to_b_, bytes_of(text)));
  text = "after!";
  settle();
  EXPECT_EQ(b_.frames, (std::vector<std::string>{"before"}));
  EXPECT_GE(clock_.now() - start, network_.faults().min_delay);
  EXPECT_LE(clock_.now() - start, network_.faults().max_delay);
}

TEST_F(SimFabricTest, APayloadGoesFromTheSendersPiecesIntoTheReceiversPieces) {
  meet();
  std::vector<std::byte> source = pattern(100'000, 1);
  std::vector<std::byte> sink(source.size());
  Completion sent(a_.loop().ready());
  Completion received(b_.loop().ready());
  const std::vector<Segment> from = cut(source, {1, 0, 4095, 50'000, 0});
  const std::vector<Segment> into = cut(sink, {0, 70'000, 7, 7});
  a_.fabric().send(to_b_, bytes_of("take this"), from, sent);
  settle();
  ASSERT_EQ(b_.payloads.size(), 1u);
  EXPECT_EQ(b_.payloads[0].size(), source.size());
  EXPECT_FALSE(sent.done());
  const TimePoint start = clock_.now();
  b_.fabric().receive(std::move(b_.payloads[0]), into, received);
  while (!received.done() && network_.step()) {
  }
  EXPECT_FALSE(sent.done()) << "the news takes time";
  EXPECT_GE(clock_.now() - start, microseconds(100));
  settle();
  ASSERT_TRUE(sent.done());
  EXPECT_TRUE(sent.outcome());
  EXPECT_TRUE(received.outcome());
  EXPECT_EQ(sink, source);
}

TEST_F(SimFabricTest, APayloadsBytesAreReadFromTheSendersMemoryNotBeforeTheTransfer) {
  meet();
  std::vector<std::byte> source = pattern(1000, 1);
  std::vector<std::byte> sink(source.size());
  Completion sent(a_.loop().ready());
  Completion received(b_.loop().ready());
  a_.fabric().send(to_b_, bytes_of("x"), cut(source, {}), sent);
  settle();
  b_.fabric().receive(std::move(b_.payloads[0]), cut(sink, {}), received);
  std::ranges::copy(pattern(1000, 2), source.begin());
  settle();
  EXPECT_TRUE(sent.done());
  EXPECT_TRUE(received.done());
  EXPECT_EQ(sink, pattern(1000, 2));
}

TEST_F(SimFabricTest, ADiscardedPayloadGivesTheSenderItsMemoryBack) {
  meet();
  b_.keep_payloads = false;
  std::vector<std::byte> source = pattern(1000, 1);
  Completion sent(a_.loop().ready());
  a_.fabric().send(to_b_, bytes_of("x"), cut(source, {}), sent);
  settle();
  EXPECT_EQ(b_.frames, (std::vector<std::string>{"x"}));
  ASSERT_TRUE(sent.done());
  EXPECT_TRUE(sent.outcome());
}

TEST_F(SimFabricTest, AnEmptyPayloadIsNone) {
  meet();
  Completion sent(a_.loop().ready());
  a_.fabric().send(to_b_, bytes_of("x"), {}, sent);
  EXPECT_TRUE(sent.done());
  settle();
  EXPECT_EQ(b_.frames.size(), 1u);
  EXPECT_TRUE(b_.payloads.empty());
  Completion received(b_.loop().ready());
  b_.fabric().receive(Payload{}, {}, received);
  EXPECT_TRUE(received.done());
}

TEST_F(SimFabricTest, WhatIsTooLongIsRefused) {
  meet();
  const std::vector<std::byte> frame(Fabric::kMaxFrameBytes + 1);
  const Result<> refused = a_.fabric().send(to_b_, frame);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::invalid_argument);
  EXPECT_TRUE(a_.fabric().send(to_b_, std::span(frame).first(Fabric::kMaxFrameBytes)));
  std::vector<std::byte> payload(10);
  Completion sent(a_.loop().ready());
  a_.fabric().send(to_b_, std::span(frame).first(Fabric::kMaxFrameWithPayloadBytes + 1),
                   cut(payload, {}), sent);
  ASSERT_TRUE(sent.done());
  EXPECT_EQ(sent.outcome().error().code, Errc::invalid_argument);
}

TEST_F(SimFabricTest, UnknownPeersAreLost) {
  const Result<> refused = a_.fabric().send(PeerId{77}, bytes_of("x"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::peer_lost);
  std::vector<std::byte> payload(10);
  Completion sent(a_.loop().ready());
  a_.fabric().send(PeerId{}, bytes_of("x"), cut(payload, {}), sent);
  ASSERT_TRUE(sent.done());
  EXPECT_EQ(sent.outcome().error().code, Errc::peer_lost);
}

TEST_F(SimFabricTest, ConnectingToNobodyIsUnavailable) {
  const Result<PeerId> nobody = connect(a_, "nowhere");
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.error().code, Errc::unavailable);
}

TEST_F(SimFabricTest, AnAddressIsTakenOnceAndPortZeroIsAnyPort) {
  const Result<Address> taken = a_.fabric().listen("b");
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, Errc::unavailable);
  const Result<Address> first = a_.fabric().listen("host:0");
  const Result<Address> second = a_.fabric().listen("host:0");
  ASSERT_TRUE(first);
  ASSERT_TRUE(second);
  EXPECT_NE(*first, *second);
  EXPECT_TRUE(connect(b_, *second));
}

TEST_F(SimFabricTest, BothEndsOfAConnectionAndNobodyElseKnowItsBinding) {
  meet();
  const PeerId again = connect(a_, "b").value();
  EXPECT_EQ(a_.fabric().binding(to_b_), b_.fabric().binding(to_a_));
  EXPECT_NE(a_.fabric().binding(to_b_), a_.fabric().binding(again));
  EXPECT_NE(again, to_b_);
  EXPECT_EQ(a_.fabric().lane(to_b_), "sim");
}

TEST_F(SimFabricTest, SeveralFabricsOfOneProcessAreApart) {
  Party data(network_, clock_, "b");
  ASSERT_TRUE(data.fabric().listen("b/data"));
  const PeerId to_data = connect(a_, "b/data").value();
  const PeerId to_control = connect(a_, "b").value();
  ASSERT_TRUE(a_.fabric().send(to_data, bytes_of("bulk")));
  ASSERT_TRUE(a_.fabric().send(to_control, bytes_of("control")));
  settle();
  EXPECT_EQ(data.frames, (std::vector<std::string>{"bulk"}));
  EXPECT_EQ(b_.frames, (std::vector<std::string>{"control"}));
  const PeerId inside = connect(b_, "b/data").value();
  ASSERT_TRUE(b_.fabric().send(inside, bytes_of("within the process")));
  settle();
  EXPECT_EQ(data.frames.back(), "within the process");
}

TEST_F(SimFabricTest, RegionsCoverTheMemoryThatWasRegistered) {
  std::vector<std::byte> memory(4096);
  const Result<std::unique_ptr<Region>> region = a_.fabric().register_memory(memory);
  ASSERT_TRUE(region);
  EXPECT_EQ((*region)->memory().data(), memory.data());
  EXPECT_FALSE(a_.fabric().register_memory({}));
}

// --- Close. ---

TEST_F(SimFabricTest, CloseIsToldToTheOtherSideOnlyAndNothingArrivesAfterwards) {
  meet();
  ASSERT_TRUE(b_.fabric().send(to_a_, bytes_of("on its way")));
  bool closed = false;
  a_.loop().spawn(close_into(a_.fabric(), to_b_, closed));
  settle();
  EXPECT_TRUE(closed);
  EXPECT_TRUE(a_.frames.empty());
  EXPECT_TRUE(a_.lost.empty());
  EXPECT_EQ(b_.lost, (std::vector<PeerId>{to_a_}));
  EXPECT_FALSE(a_.fabric().send(to_b_, bytes_of("x")));
  EXPECT_FALSE(b_.fabric().send(to_a_, bytes_of("x")));
  closed = false;
  a_.loop().spawn(close_into(a_.fabric(), to_b_, closed));
  EXPECT_TRUE(closed) << "a second close has nothing to wait for";
}

TEST_F(SimFabricTest, CloseEndsEveryOperationAndThenNothingLandsAnyMore) {
  meet();
  std::vector<std::byte> source = pattern(1'000'000, 3);
  std::vector<std::byte> sink(source.size());
  Completion sent(a_.loop().ready());
  Completion received(b_.loop().ready());
  a_.fabric().send(to_b_, bytes_of("x"), cut(source, {}), sent);
  settle();
  b_.fabric().receive(std::move(b_.payloads[0]), cut(sink, {}), received);
  run_for(microseconds(700));  // the first half has landed
  EXPECT_EQ(sink[0], source[0]);
  EXPECT_NE(sink, source);
  bool closed = false;
  b_.loop().spawn(close_into(b_.fabric(), to_a_, closed));
  while (!closed && network_.step()) {
  }
  ASSERT_TRUE(received.done());
  EXPECT_EQ(received.outcome().error().code, Errc::peer_lost);
  const std::vector<std::byte> quiet = sink;
  settle();
  EXPECT_EQ(sink, quiet);
  ASSERT_TRUE(sent.done());
  EXPECT_EQ(sent.outcome().error().code, Errc::peer_lost);
  EXPECT_EQ(a_.lost, (std::vector<PeerId>{to_b_}));
}

TEST_F(SimFabricTest, SeveralMayWaitForOneClose) {
  meet();
  bool first = false;
  bool second = false;
  a_.loop().spawn(close_into(a_.fabric(), to_b_, first));
  a_.loop().spawn(close_into(a_.fabric(), to_b_, second));
  EXPECT_FALSE(first);
  settle();
  EXPECT_TRUE(first);
  EXPECT_TRUE(second);
}

TEST_F(SimFabricTest, ALossThatWasNotYetToldIsNotToldAfterClose) {
  meet();
  network_.reset_connections("a", "b");
  clock_.advance(seconds(1));
  network_.deliver_due();  // known to the fabric; its loop has not turned yet
  bool closed = false;
  a_.loop().spawn(close_into(a_.fabric(), to_b_, closed));
  settle();
  EXPECT_TRUE(closed);
  EXPECT_TRUE(a_.lost.empty());
  EXPECT_EQ(b_.lost.size(), 1u);
}

TEST_F(SimFabricTest, DestroyingAFabricLosesItsPeersAndEndsItsOperations) {
  meet();
  std::vector<std::byte> source = pattern(1000, 3);
  Completion sent(a_.loop().ready());
  a_.fabric().send(to_b_, bytes_of("x"), cut(source, {}), sent);
  ASSERT_TRUE(b_.fabric().send(to_a_, bytes_of("never read")));
  clock_.advance(seconds(1));
  network_.deliver_due();
  a_.destroy_fabric();
  ASSERT_TRUE(sent.done());
  EXPECT_EQ(sent.outcome().error().code, Errc::peer_lost);
  settle();
  EXPECT_EQ(b_.lost, (std::vector<PeerId>{to_a_}));
}

TEST_F(SimFabricTest, APayloadReceivedAfterItsSenderWentIsLost) {
  meet();
  std::vector<std::byte> source = pattern(1000, 3);
  std::vector<std::byte> sink(source.size());
  Completion sent(a_.loop().ready());
  Completion received(b_.loop().ready());
  a_.fabric().send(to_b_, bytes_of("x"), cut(source, {}), sent);
  settle();
  a_.destroy_fabric();
  b_.fabric().receive(std::move(b_.payloads[0]), cut(sink, {}), received);
  settle();
  ASSERT_TRUE(received.done());
  EXPECT_EQ(received.outcome().error().code, Errc::peer_lost);
  EXPECT_EQ(sink, std::vector<std::byte>(sink.size()));
}

}  // namespace
}  // namespace membrain::sim_test
