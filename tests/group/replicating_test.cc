// The root's blocks at every member: whole, or told to be missing; in time; whatever fails.
#include <gtest/gtest.h>

#include <list>

#include "tests/group/group_house.h"

namespace membrain::group_test {
namespace {

TEST_F(Replication, BringsTheRootsBlocksToEveryMemberFromAnyRoot) {
  make(5);
  for (std::uint32_t root = 0; root < 5; ++root) {
    replicate(root);
    expect_all();
  }
}

TEST_F(Replication, OfAGroupOfTwoAndOfMany) {
  make(2);
  replicate(1);
  expect_all();
  EXPECT_EQ((*members_[0]->end)->bytes, kBlocks * kBlockBytes);
  EXPECT_EQ((*members_[1]->end)->lane_bytes.at("sim"), kBlocks * kBlockBytes);
}

TEST_F(Replication, WorksAlongTheTreeOfDoublingsToo) {
  make(13);  // more members than chunks
  replicate(4);
  expect_all();
}

TEST_F(Replication, WaitsForMembersThatComeLate) {
  come_late();
  expect_all();
}

TEST_F(Replication, WaitsForThemWhereBlocksComeWithTheirMessages) {
  network_.set_eager(kAllEager);
  come_late();
  expect_all();
}

TEST_F(Replication, ManyChunksWaitForAMemberThatComesLate) {
  network_.set_eager(kAllEager);
  block_bytes_ = 64;
  blocks_ = 2 * GroupLinks::kMaxWaiting * wire::kMaxChunkBlocks;
  come_late();
  expect_all();
}

TEST_F(Replication, AMemberThatHasNotComeIsSentTheOfferAlone) {
  make(2);
  sequence_ = 1;
  sent_ = content(1);
  std::ranges::copy(sent_, members_[0]->blocks);
  call(0, 0);
  run_for(milliseconds(500));
  EXPECT_EQ(network_.stats().messages, 2U) << "who it is, and the offer";
  call(1, 0);
  settle();
  expect_all();
}

TEST_F(Replication, WorksWhereBlocksComeWithTheirMessages) {
  network_.set_eager(kAllEager);
  make(5);
  for (std::uint32_t root = 0; root < 5; ++root) {
    replicate(root);
    expect_all();
  }
}

TEST_F(Replication, EndsAtTheDeadlineWithoutAMember) {
  make(4);
  sequence_ = 1;
  sent_ = content(1);
  std::ranges::copy(sent_, members_[0]->blocks);
  const TimePoint begun = clock_.now();
  for (const std::uint32_t rank : {0U, 1U, 3U}) call(rank, 0, seconds(1));
  settle();
  EXPECT_LE(clock_.now() - begun, seconds(1) + Replicating::kDrain + milliseconds(200));
  EXPECT_EQ(ok(0), 0U) << "not everywhere";
  EXPECT_EQ(ok(1), kBlocks);
  EXPECT_FALSE(*members_[3]->end) << "it is behind the one that did not come";
  EXPECT_EQ(members_[3]->end->error().code, Errc::timed_out);
  members_[2]->call.reset();
  sequence_ = 1;
  replicate(2);  // and goes on afterwards
  expect_all();
}

TEST_F(Replication, AMemberThatDiesTakesOnlyThoseBehindItAlong) {
  make(5);
  sequence_ = 1;
  sent_ = content(1);
  std::ranges::copy(sent_, members_[0]->blocks);
  for (std::uint32_t rank = 0; rank < 5; ++rank) call(rank, 0);
  run_for(milliseconds(1));
  network_.kill("member3");
  settle();
  EXPECT_EQ(ok(0), 0U);
  for (const std::uint32_t rank : {1U, 2U}) {
    EXPECT_EQ(ok(rank), kBlocks);
    expect_right(rank);
  }
  expect_right(4);
}

TEST_F(Replication, ABlockThatIsSpoiledOnTheWayIsToldToBeMissing) {
  make(3);
  SimFaults faults;
  faults.bit_flip = 0.4;
  network_.set_faults(faults);
  for (int round = 0; round < 5; ++round) {
    replicate(0);
    EXPECT_LE(ok(0), std::min(ok(1), ok(2)));
    EXPECT_LE(ok(2), ok(1)) << "what the second does not have, the third cannot";
    expect_right(1), expect_right(2);
  }
}

TEST_F(Replication, MembersThatMeanOtherBlocksGetNone) {
  make(3);
  sequence_ = 1;
  sent_ = content(1);
  call(0, 0);
  call(1, 0, seconds(5), 99);
  call(2, 0);
  settle();
  ASSERT_FALSE(*members_[1]->end);
  EXPECT_EQ(members_[1]->end->error().code, Errc::invalid_argument);
  EXPECT_EQ(ok(0), 0U);
  EXPECT_EQ(ok(2), 0U) << "but it need not wait for its deadline";
  EXPECT_LT(clock_.now() - begun_, seconds(5));
}

TEST_F(Replication, StrangersAreDisconnected) {
  make(2, "another secret");
  sequence_ = 1;
  sent_ = content(1);
  call(0, 0, seconds(2));
  call(1, 0, seconds(2));
  settle();
  EXPECT_EQ(ok(0), 0U);
  EXPECT_FALSE(*members_[1]->end);
}

TEST_F(Replication, CanBeTakenBack) {
  make(2);
  sequence_ = 1;
  call(0, 0);
  run_for(milliseconds(10));
  members_[0]->call->cancel();
  settle();
  EXPECT_EQ(ok(0), 0U);
  EXPECT_LT(clock_.now() - begun_, seconds(5));
}

TEST_F(Replication, CanBeTakenBackWhileAMemberIsStopped) {
  make(2);
  sequence_ = 1;
  network_.pause("member1");
  call(0, 0, std::chrono::minutes(10));
  run_for(milliseconds(10));
  members_[0]->call->cancel();
  settle();
  EXPECT_EQ(ok(0), 0U);
  EXPECT_LT(clock_.now() - begun_, seconds(5));
  network_.resume("member1");
}

TEST_F(Replication, AMemberThatIsStoppedForLongGetsItsBlocks) {
  make(2);
  sequence_ = 1;
  sent_ = content(1);
  std::ranges::copy(sent_, members_[0]->blocks);
  network_.pause("member1");
  call(0, 0, std::chrono::minutes(1));
  call(1, 0, std::chrono::minutes(1));
  run_for(seconds(20));
  network_.resume("member1");
  settle();
  expect_all();
}

TEST_F(Replication, UnderFaultsEndsInTimeAndNeverGivesAWrongByte) {
  make(6);
  std::size_t whole = 0;
  for (int round = 0; round < 60; ++round) {
    SimFaults faults;
    faults.loss = faults.duplicate = faults.reorder = round % 3 == 0 ? 0.03 : 0;
    faults.reset = round % 3 == 1 ? 0.01 : 0;
    faults.bit_flip = round % 5 == 0 ? 0.05 : 0;
    network_.set_faults(faults);
    network_.set_eager(round % 2 == 0 ? 0 : kAllEager);
    const TimePoint begun = clock_.now();
    replicate(static_cast<std::uint32_t>(network_.random().below(6)));
    EXPECT_LE(clock_.now() - begun, seconds(5) + Replicating::kDrain + milliseconds(200));
    for (std::uint32_t rank = 0; rank < 6; ++rank) {
      expect_right(rank);
      whole += ok(rank);
    }
  }
  EXPECT_GT(whole, 60U * 6 * kBlocks / 3);
  network_.set_faults({});
  replicate(0);
  expect_all();
}

TEST_F(ReplicationOnGpus, BringsBlocksFromOneToTheOthers) {
  make(4);
  caches_.reserve(4);
  for (const std::uint32_t rank : {0U, 1U, 3U}) onto_gpu(rank);  // and one in the host's memory
  for (std::uint32_t root = 0; root < 4; ++root) {
    replicate(root);
    expect_all();
  }
}

TEST_F(ReplicationOnGpus, AMemberThatComesLateHoldsNobodyElseUp) {
  make(5);  // more than chunks: the root's children are 4, 2 and 1
  caches_.reserve(5);
  for (std::uint32_t rank = 0; rank < 5; ++rank) onto_gpu(rank);
  sequence_ = 1;
  sent_ = content(1);
  std::ranges::copy(sent_, members_[0]->blocks);
  for (std::uint32_t rank = 0; rank < 4; ++rank) call(rank, 0);
  run_for(milliseconds(500));
  for (const std::uint32_t rank : {1U, 2U, 3U}) {
    EXPECT_TRUE(members_[rank]->end) << "member " << rank << " waits for a staging slot";
  }
  EXPECT_FALSE(members_[0]->end);
  call(4, 0);
  settle();
  expect_all();
}

TEST_F(ReplicationOnGpus, OnlyWhatIsRightReachesThem) {
  make(3);
  caches_.reserve(3);
  for (std::uint32_t rank = 0; rank < 3; ++rank) onto_gpu(rank);
  SimFaults faults;
  faults.bit_flip = 0.4;
  network_.set_faults(faults);
  std::vector<std::byte> before(kBlocks * kBlockBytes, std::byte{0x11});
  std::ranges::copy(before, members_[2]->blocks);
  replicate(0);
  expect_right(1), expect_right(2);
  for (std::size_t i = 0; i < kBlocks; ++i) {
    if ((*members_[2]->end)->items[i].ok) continue;
    EXPECT_EQ(members_[2]->blocks[i * kBlockBytes + 5], std::byte{0x11}) << "it was touched";
  }
}

}  // namespace
}  // namespace membrain::group_test
