// Hedged fetches: whichever copy is whole first is the caller's, and the other one lands elsewhere.
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "tests/client/fetch_fixture.h"

namespace membrain::client_test {
namespace {

using Mood = FakeNode::Mood;

constexpr auto kOk = wire::ItemStatus::ok;

/// Node 1, on this host, is asked first; node 2 has the same blocks.
class Hedge : public FetchTest {
 protected:
  void prepare(Mood first, Mood second, std::size_t size = 5000) {
    node1_.host = "here";
    node1_.mood = first;
    node2_.mood = second;
    begin();
    bytes_ = publish(1, size, {&node1_, &node2_});
    match_ = lookup({1}).value();
    into_.assign(size, std::byte{0});
  }
  /// The answer of a node that hung.
  void answer_late(FakeNode& node, std::vector<std::byte> bytes) {
    const auto size = static_cast<std::uint32_t>(bytes.size());
    const OpId op = node.fetches.front().first;
    node.send_data(client_at(node), op, {{0, kOk, size}}, std::move(bytes));
  }
  /// The memory is the caller's again: nothing may land in it.
  void expect_quiet(std::vector<std::byte>& into) {
    std::fill(into.begin(), into.end(), std::byte{0x77});
    run_for(seconds(3));
    EXPECT_EQ(std::count(into.begin(), into.end(), std::byte{0x77}),
              static_cast<std::ptrdiff_t>(into.size()));
  }
  [[nodiscard]] const Detours& detours() const { return (*result_)->detours; }

  std::vector<std::byte> bytes_;
  std::vector<std::byte> into_;
  Match match_;
};

TEST_F(Hedge, ASilentNodeIsHedgedAndItsLateBytesLandNowhere) {
  prepare(Mood::hang, Mood::serve);
  const TimePoint before = clock_.now();
  launch(match_, {whole(0, into_)});
  step_until([&] { return result_.has_value(); });
  EXPECT_LE(clock_.now() - before, LaneModel::kUnknownHedge + milliseconds(2));
  EXPECT_EQ((*result_)->ok_count(), 1U);
  EXPECT_EQ((*result_)->bytes, 5000U);
  EXPECT_EQ((*result_)->lane_bytes.at("sim"), 5000U);
  EXPECT_EQ(detours().hedged, 1U);
  EXPECT_EQ(detours().hedge_won, 1U);
  EXPECT_EQ(into_, bytes_);
  answer_late(node1_, content(5000, 99));
  expect_quiet(into_);
  EXPECT_EQ(node1_.cancelled.size(), 1U) << "the loser is told when it speaks";
}

TEST_F(Hedge, ANodeThatAnswersInTimeIsNotHedged) {
  prepare(Mood::serve, Mood::serve);
  for (int i = 0; i < 50; ++i) {
    const Result<TransferReport> report = fetch(match_, {whole(0, into_)});
    ASSERT_EQ(report->ok_count(), 1U);
    EXPECT_EQ(report->detours.hedged, 0U);
  }
  EXPECT_TRUE(node2_.fetches.empty());
}

TEST_F(Hedge, TheFirstNodeMayStillWin) {
  prepare(Mood::hang, Mood::hang);
  launch(match_, {whole(0, into_)});
  step_until([&] { return !node2_.fetches.empty(); });
  answer_late(node1_, bytes_);
  step_until([&] { return result_.has_value(); });
  EXPECT_EQ(into_, bytes_);
  EXPECT_EQ(detours().hedged, 1U);
  EXPECT_EQ(detours().hedge_won, 0U);
  step_until([&] { return !node2_.cancelled.empty(); });
  answer_late(node2_, content(5000, 99));
  expect_quiet(into_);
}

TEST_F(Hedge, WhatWasSetAsideDoesNotDisturbItsNeighbours) {
  node1_.host = "here";
  node1_.mood = Mood::hang;
  begin();
  const std::vector<std::byte> twice = publish(1, 5000, {&node1_, &node2_});
  const std::vector<std::byte> once = publish(2, 3000, {&node1_});
  const Match match = lookup({1, 2}).value();
  std::vector<std::byte> first(5000);
  std::vector<std::byte> second(3000);
  TransferOptions options;
  options.on_item = [&](std::size_t item, const ItemOutcome& outcome) {
    if (item != 0) return;
    EXPECT_TRUE(outcome.ok);
    EXPECT_EQ(first, twice);
    std::fill(first.begin(), first.end(), std::byte{0x77});  // it is the caller's from here on
  };
  launch(match, {whole(0, first), whole(1, second)}, options);
  step_until([&] { return first[0] == std::byte{0x77}; });
  EXPECT_FALSE(result_);
  std::vector<std::byte> both = content(5000, 99);
  both.insert(both.end(), once.begin(), once.end());
  node1_.send_data(client_at(node1_), node1_.fetches.front().first,
                   {{0, kOk, 5000}, {1, kOk, 3000}}, both);
  step_until([&] { return result_.has_value(); });
  EXPECT_EQ((*result_)->ok_count(), 2U);
  EXPECT_EQ(second, once);
  EXPECT_EQ(std::count(first.begin(), first.end(), std::byte{0x77}), 5000);
  expect_quiet(first);
}

TEST_F(Hedge, ACopyWaitsForABlockThatHasBegunToLandAndIsUsedWhenThatBreaksOff) {
  prepare(Mood::hang, Mood::hang, 4'000'000);
  launch(match_, {whole(0, into_)}, within(seconds(3)));
  step_until([&] { return !node2_.fetches.empty(); });
  answer_late(node1_, bytes_);
  step_until([&] { return into_[0] != std::byte{0}; });
  network_.pause("node1");
  answer_late(node2_, bytes_);
  run_for(milliseconds(100));
  EXPECT_FALSE(result_) << "a byte of the first one could still land";
  network_.kill("node1");
  step_until([&] { return result_.has_value(); });
  EXPECT_EQ((*result_)->ok_count(), 1U);
  EXPECT_EQ(detours().hedge_won, 1U);
  EXPECT_EQ(into_, bytes_);
  expect_quiet(into_);
}

TEST_F(Hedge, ACopyIsUsedAtTheDeadlineOfABlockThatHangsHalfLanded) {
  prepare(Mood::hang, Mood::hang, 4'000'000);
  const TimePoint before = clock_.now();
  launch(match_, {whole(0, into_)}, within(milliseconds(500)));
  step_until([&] { return !node2_.fetches.empty(); });
  answer_late(node1_, bytes_);
  step_until([&] { return into_[0] != std::byte{0}; });
  network_.pause("node1");
  answer_late(node2_, bytes_);
  step_until([&] { return result_.has_value(); });
  EXPECT_LT(clock_.now() - before, milliseconds(1500)) << "kDrain";
  EXPECT_EQ((*result_)->ok_count(), 1U);
  EXPECT_EQ(into_, bytes_);
  network_.resume("node1");
  expect_quiet(into_);
}

TEST_F(Hedge, AHedgeThatFailsLeavesTheFirstOneItsTime) {
  prepare(Mood::hang, Mood::stale);
  launch(match_, {whole(0, into_)});
  step_until([&] { return !node2_.fetches.empty(); });
  run_for(milliseconds(500));
  EXPECT_FALSE(result_);
  answer_late(node1_, bytes_);
  step_until([&] { return result_.has_value(); });
  EXPECT_EQ((*result_)->ok_count(), 1U);
  EXPECT_EQ(into_, bytes_);
}

TEST_F(Hedge, WrongBytesOfAHedgeAreNotDelivered) {
  prepare(Mood::hang, Mood::corrupt);
  launch(match_, {whole(0, into_)}, within(milliseconds(400)));
  step_until([&] { return result_.has_value(); });
  EXPECT_EQ((*result_)->items[0].why, Errc::timed_out);
  EXPECT_EQ(into_, std::vector<std::byte>(5000));
  EXPECT_EQ(node2_.suspects.size(), 1U);
}

TEST_F(Hedge, AFailureWhileItsHedgeRunsIsDecidedByTheHedge) {
  prepare(Mood::hang, Mood::hang);
  launch(match_, {whole(0, into_)});
  step_until([&] { return !node2_.fetches.empty(); });
  network_.kill("node1");
  run_for(milliseconds(200));
  EXPECT_FALSE(result_);
  answer_late(node2_, bytes_);
  step_until([&] { return result_.has_value(); });
  EXPECT_EQ((*result_)->ok_count(), 1U);
  EXPECT_EQ(into_, bytes_);
}

TEST_F(Hedge, ThatBothHangEndsAtTheDeadlineAndNothingLandsLater) {
  prepare(Mood::hang, Mood::hang);
  const TimePoint before = clock_.now();
  launch(match_, {whole(0, into_)}, within(milliseconds(300)));
  step_until([&] { return result_.has_value(); });
  EXPECT_EQ((*result_)->items[0].why, Errc::timed_out);
  EXPECT_LT(clock_.now() - before, milliseconds(310));
  answer_late(node1_, bytes_);
  answer_late(node2_, bytes_);
  expect_quiet(into_);
}

TEST_F(Hedge, TakenBackIsOverAtOnce) {
  prepare(Mood::hang, Mood::hang);
  launch(match_, {whole(0, into_)});
  step_until([&] { return !node2_.fetches.empty(); });
  const TimePoint before = clock_.now();
  token_->request();
  step_until([&] { return result_.has_value(); });
  EXPECT_EQ(result_->error().code, Errc::cancelled);
  EXPECT_LT(clock_.now() - before, milliseconds(10));
  answer_late(node1_, bytes_);
  answer_late(node2_, bytes_);
  expect_quiet(into_);
}

TEST_F(Hedge, StoppingTheClientWaitsForALoser) {
  prepare(Mood::hang, Mood::serve);
  launch(match_, {whole(0, into_)});
  step_until([&] { return result_.has_value(); });
  stop();
  EXPECT_EQ((*result_)->ok_count(), 1U);
  EXPECT_EQ(into_, bytes_);
}

TEST_F(Hedge, WaitsForAsLongAsIsUsualOnThatLane) {
  prepare(Mood::serve, Mood::serve);
  publish(2, 100, {&node2_});
  const Match other = lookup({2}).value();
  std::vector<std::byte> small(100);
  for (const char* node : {"node1", "node2"}) network_.slow_down(node, milliseconds(15));
  ASSERT_EQ(fetch(other, {whole(0, small)})->ok_count(), 1U);
  Duration usual{};
  for (int i = 0; i < 30; ++i) {
    const TimePoint began = clock_.now();
    ASSERT_EQ(fetch(match_, {whole(0, into_)})->ok_count(), 1U);
    usual = clock_.now() - began;
  }
  node1_.mood = Mood::hang;
  const TimePoint before = clock_.now();
  const Result<TransferReport> report = fetch(match_, {whole(0, into_)});
  EXPECT_EQ(report->detours.hedge_won, 1U);
  EXPECT_GE(clock_.now() - before, milliseconds(60)) << "an answer's usual time, twice";
  EXPECT_LE(clock_.now() - before, 2 * usual);
}

/// Many blocks on two nodes, of which the first is silent.
class HedgeBudget : public Hedge {
 protected:
  static constexpr std::uint32_t kBlocks = 24;
  static constexpr std::size_t kSize = 1'200'000;

  void fetch_all(milliseconds timeout) {
    node1_.host = "here";
    node1_.mood = Mood::hang;
    begin();
    std::vector<unsigned> numbers;
    std::vector<FetchItem> items;
    buffers_.assign(kBlocks, std::vector<std::byte>(kSize));
    for (std::uint32_t i = 0; i < kBlocks; ++i) {
      numbers.push_back(i);
      expected_.push_back(publish(i, kSize, {&node1_, &node2_}));
      items.push_back(whole(i, buffers_[i]));
    }
    const Match match = lookup(numbers).value();
    launch(match, items, within(timeout));
    step_until([&] { return result_.has_value(); });
  }
  std::vector<std::vector<std::byte>> buffers_;
  std::vector<std::vector<std::byte>> expected_;
};

TEST_F(HedgeBudget, BoundsHedgesAndTheRestGoesElsewhereWhenPatienceEnds) {
  const TimePoint before = clock_.now();
  fetch_all(seconds(10));
  EXPECT_EQ((*result_)->ok_count(), kBlocks);
  EXPECT_EQ(buffers_, expected_);
  EXPECT_LE(detours().hedged * kSize, LaneBook::kHedgeBurstBytes + kBlocks * kSize / 20);
  EXPECT_GE(detours().hedged, 13U);
  EXPECT_EQ(detours().hedge_won, detours().hedged);
  EXPECT_EQ(detours().retried, kBlocks - detours().hedged);
  EXPECT_LE(clock_.now() - before, LaneModel::kUnknownPatience + milliseconds(200));
}

}  // namespace
}  // namespace membrain::client_test
