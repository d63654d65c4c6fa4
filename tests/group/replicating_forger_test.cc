// Members that say what no honest one would, or before they should.
#include <gtest/gtest.h>

#include <list>

#include "tests/group/group_house.h"

namespace membrain::group_test {
namespace {

/// What the test itself says for member 0, to member 1, whose chunks are of three blocks.
class ReplicationFromAForger : public Replication {
 protected:
  static constexpr std::uint32_t kChunk = 3;

  void SetUp() override {
    make(3);
    sequence_ = 1;
    sent_ = content(1);
  }
  void reach() {
    std::optional<Result<PeerId>> reached;
    members_[0]->loop.spawn(reach(members_[0]->links, reached));
    step_until([&] { return reached.has_value(); });
    peer_ = **reached;
  }
  void offer(std::uint32_t chunk_blocks, std::uint64_t names = 1) {
    members_[0]->links.send(
        peer_,
        wire::GroupOffer{
            sequence_, 0, wire::TreeShape::chain, kBlocks, chunk_blocks, kBlockBytes, {names, 2}});
  }
  void blocks(std::uint32_t first, std::uint32_t count) {
    wire::GroupBlocks message{sequence_, first, {}};
    const Segment payload{sent_.data() + first * kBlockBytes, count * kBlockBytes, nullptr};
    for (std::uint32_t i = 0; i < count; ++i) {
      message.blocks.push_back(
          {wire::ItemStatus::ok,
           checksum(std::span(sent_).subspan((first + i) * kBlockBytes, kBlockBytes))});
    }
    sends_.emplace_back(members_[0]->loop.ready());
    std::vector<std::byte> frame;
    wire::write_frame(frame, wire::Header{}, message);
    members_[0]->fabric->send(peer_, frame, {&payload, 1}, sends_.back());
  }
  /// Member 1 has disconnected member 0.
  [[nodiscard]] bool disconnected() {
    run_for(milliseconds(100));
    const PeerId before = peer_;
    reach();
    return peer_ != before;
  }
  static Task<> reach(GroupLinks& links, std::optional<Result<PeerId>>& reached) {
    Task<Result<PeerId>> reaching = links.reach(1, TimePoint::max());
    Result<PeerId> peer = co_await reaching;
    reached.emplace(std::move(peer));
  }

  PeerId peer_;
  std::list<Completion> sends_;
};

TEST_F(ReplicationFromAForger, WholeChunksAreTaken) {
  call(1, 0, seconds(1));
  call(2, 0, seconds(1));
  reach();
  offer(kChunk);
  for (const std::uint32_t first : {6U, 0U, 9U, 3U}) blocks(first, std::min(3U, kBlocks - first));
  EXPECT_FALSE(disconnected());
  settle();
  EXPECT_EQ(ok(1), kBlocks);
  EXPECT_EQ(ok(2), kBlocks);
}

TEST_F(ReplicationFromAForger, PartsOfChunksDisconnectIt) {
  for (const auto& [first, count] : {std::pair{1U, 3U}, {0U, 2U}, {0U, 4U}, {8U, 2U}}) {
    call(1, 0, milliseconds(300));
    reach();
    offer(kChunk);
    blocks(first, count);
    EXPECT_TRUE(disconnected()) << count << " from " << first;
    settle();
    EXPECT_EQ(ok(1), 0U);
    ++sequence_;
  }
}

TEST_F(ReplicationFromAForger, BlocksBeyondTheLastDisconnectIt) {
  call(1, 0, milliseconds(300));
  reach();
  offer(kChunk);
  members_[0]->links.send(peer_, wire::GroupBlocks{sequence_, 12, {{}, {}, {}}});
  EXPECT_TRUE(disconnected());
  settle();
}

TEST_F(ReplicationFromAForger, AnOfferOfHugeChunksHarmsNobodyBehind) {
  call(1, 0, seconds(1));
  call(2, 0, seconds(1));
  reach();
  offer(1'000'000);
  settle();
  EXPECT_EQ(members_[1]->end->error().code, Errc::invalid_argument);
  EXPECT_TRUE(*members_[2]->end) << "it was made an offer, and told that there is nothing";
  EXPECT_LT(clock_.now() - begun_, seconds(1)) << "it need not wait for its deadline";
}

TEST_F(ReplicationFromAForger, WhatComesAfterTheDeadlineIsLetGo) {
  call(1, 0, milliseconds(200));
  call(2, 0, milliseconds(200));
  reach();
  offer(kChunk);
  run_for(milliseconds(50));
  network_.pause("member2");  // what goes to it holds the call open
  blocks(0, kChunk);
  run_for(milliseconds(200));
  ASSERT_FALSE(members_[1]->end);
  blocks(3, kChunk);
  run_for(milliseconds(50));
  network_.resume("member2");
  settle();
  EXPECT_EQ(ok(1), kChunk);
  EXPECT_EQ(members_[1]->memory[3 * kBlockBytes], std::byte{0});
}

TEST_F(ReplicationFromAForger, BlocksThatCameBeforeTheCallReachThoseBehindIt) {
  network_.set_eager(kAllEager);
  call(2, 0, seconds(1));
  reach();
  offer(kChunk);
  for (const std::uint32_t first : {0U, 3U, 6U, 9U}) blocks(first, std::min(3U, kBlocks - first));
  run_for(milliseconds(50));
  call(1, 0, seconds(1));
  settle();
  EXPECT_EQ(ok(1), kBlocks);
  EXPECT_EQ(ok(2), kBlocks);
  expect_right(2);
}

TEST_F(ReplicationFromAForger, WhoSaysTooMuchBeforeTheCallIsDisconnected) {
  reach();
  offer(kChunk);
  wire::GroupBlocks message{sequence_, 0, {{}, {}, {}}};
  for (std::size_t i = 1; i < GroupLinks::kMaxWaiting; ++i) members_[0]->links.send(peer_, message);
  EXPECT_FALSE(disconnected());
  members_[0]->links.send(peer_, message);
  EXPECT_TRUE(disconnected());
}

TEST_F(ReplicationFromAForger, WhatWaitsForACallThatWasSkippedIsLetGo) {
  reach();
  offer(kChunk);
  blocks(0, kChunk);
  run_for(milliseconds(50));
  ASSERT_FALSE(sends_.back().done()) << "it waits at the sender";
  members_[1]->links.detach(sequence_);  // as a call does that is refused
  run_for(milliseconds(50));
  EXPECT_TRUE(sends_.back().done());
}

}  // namespace
}  // namespace membrain::group_test
