// How a fetch ends when its node does not play along: never before its destination is quiet, and
// with nothing that was not asked for.
#include <gtest/gtest.h>

#include <algorithm>
#include <list>

#include "tests/client/fetch_fixture.h"

namespace membrain::client_test {
namespace {

using FetchEnd = FetchTest;
using Mood = FakeNode::Mood;

TEST_F(FetchEnd, ANodeThatNeverAnswersTimesOutAtTheDeadlineAndItsLateBytesLandNowhere) {
  begin();
  const std::vector<std::byte> bytes = publish(1, 5000, {&node1_});
  const Match match = lookup({1}).value();
  std::vector<std::byte> into(5000);
  node1_.mood = Mood::hang;
  const TimePoint before = clock_.now();
  const Result<TransferReport> report = fetch(match, {whole(0, into)}, within(milliseconds(300)));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->items[0].why, Errc::timed_out);
  EXPECT_GE(clock_.now() - before, milliseconds(300));
  EXPECT_LT(clock_.now() - before, milliseconds(310)) << "nothing was landing: no drain";
  step_until([&] { return !node1_.cancelled.empty(); });
  EXPECT_EQ(node1_.cancelled[0], node1_.fetches[0].first);

  node1_.send_data(client_at(node1_), node1_.fetches[0].first, {{0, wire::ItemStatus::ok, 5000}},
                   bytes);
  run_for(seconds(2));
  EXPECT_EQ(into, std::vector<std::byte>(5000));
}

TEST_F(FetchEnd, ATransferThatHangsIsReportedOnlyWhenItsDestinationIsQuiet) {
  begin();
  publish(1, 4'000'000, {&node1_});
  const Match match = lookup({1}).value();
  std::vector<std::byte> into(4'000'000);
  const TimePoint before = clock_.now();
  launch(match, {whole(0, into)}, within(milliseconds(500)));
  step_until([&] { return into[0] != std::byte{0}; });
  ASSERT_FALSE(result_);
  network_.pause("node1");
  step_until([&] { return result_.has_value(); });
  ASSERT_TRUE(*result_);
  EXPECT_EQ((*result_)->items[0].why, Errc::timed_out);
  EXPECT_GE(clock_.now() - before, milliseconds(1300)) << "kDrain";
  EXPECT_LT(clock_.now() - before, milliseconds(1500));
  std::fill(into.begin(), into.end(), std::byte{0x77});  // the memory is the caller's again
  network_.resume("node1");
  run_for(seconds(3));
  EXPECT_EQ(into, std::vector<std::byte>(4'000'000, std::byte{0x77}));
}

TEST_F(FetchEnd, ATransferThatEndsWithinTheDrainCounts) {
  begin();
  const std::vector<std::byte> bytes = publish(1, 4'000'000, {&node1_});
  const Match match = lookup({1}).value();
  std::vector<std::byte> into(4'000'000);
  const Result<TransferReport> report = fetch(match, {whole(0, into)}, within(milliseconds(2)));
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->items[0].ok) << "4 ms at 1 GB/s";
  EXPECT_EQ(into, bytes);
}

TEST_F(FetchEnd, ANeighbourOfATransferThatHangsGoesToAnotherReplica) {
  node1_.host = "here";
  begin();
  publish(1, 4'000'000, {&node1_});
  const std::vector<std::byte> bytes = publish(2, 1000, {&node1_, &node2_});
  const Match hanging = lookup({1}).value();
  const Match other = lookup({2}).value();
  std::vector<std::byte> into(4'000'000);
  std::vector<std::byte> small(1000);
  launch(hanging, {whole(0, into)}, within(milliseconds(500)));
  step_until([&] { return into[0] != std::byte{0}; });
  network_.pause("node1");
  const Result<TransferReport> report = fetch(other, {whole(0, small)}, within(seconds(8)));
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->items[0].ok);
  EXPECT_EQ(small, bytes);
  EXPECT_EQ(report->detours.hedge_won, 1U);
  step_until([&] { return result_.has_value(); });
  network_.resume("node1");
}

TEST_F(FetchEnd, CancelTakesItBackWhenItsDestinationIsQuiet) {
  begin();
  publish(1, 4'000'000, {&node1_});
  publish(2, 4'000'000, {&node2_});
  node2_.mood = Mood::hang;
  const Match match = lookup({1, 2}).value();
  std::vector<std::byte> one(4'000'000);
  std::vector<std::byte> two(4'000'000);
  launch(match, {whole(0, one), whole(1, two)});
  step_until([&] { return one[0] != std::byte{0}; });
  network_.pause("node1");
  const TimePoint before = clock_.now();
  token_->request();
  step_until([&] { return result_.has_value(); });
  ASSERT_FALSE(*result_);
  EXPECT_EQ(result_->error().code, Errc::cancelled);
  EXPECT_GE(clock_.now() - before, milliseconds(790)) << "kDrain";
  std::fill(one.begin(), one.end(), std::byte{0x77});
  network_.resume("node1");
  run_for(seconds(2));
  EXPECT_EQ(one, std::vector<std::byte>(4'000'000, std::byte{0x77}));
}

TEST_F(FetchEnd, CancelBeforeAnythingLandsIsOverAtOnce) {
  begin();
  publish(1, 1000, {&node1_});
  node1_.mood = Mood::hang;
  const Match match = lookup({1}).value();
  std::vector<std::byte> into(1000);
  launch(match, {whole(0, into)});
  step_until([&] { return !node1_.fetches.empty(); });
  const TimePoint before = clock_.now();
  token_->request();
  step_until([&] { return result_.has_value(); });
  EXPECT_EQ(result_->error().code, Errc::cancelled);
  EXPECT_LT(clock_.now() - before, milliseconds(10));
}

TEST_F(FetchEnd, DataThatDoesNotFitWhatWasAskedIsDroppedAsAWhole) {
  begin();
  const std::vector<std::byte> first = publish(1, 1000, {&node1_});
  const std::vector<std::byte> second = publish(2, 1000, {&node1_});
  const Match match = lookup({1, 2}).value();
  node1_.mood = Mood::hang;
  std::vector<std::byte> one(1000);
  std::vector<std::byte> two(1000);
  launch(match, {whole(0, one), whole(1, two)});
  step_until([&] { return !node1_.fetches.empty(); });
  const OpId op = node1_.fetches[0].first;
  const PeerId client = client_at(node1_);
  constexpr auto kOk = wire::ItemStatus::ok;
  const std::vector<std::byte> junk(5000, std::byte{0x66});
  const auto send = [&](OpId to, std::vector<wire::DataItem> items, std::size_t bytes) {
    node1_.send_data(client, to, std::move(items),
                     {junk.begin(), junk.begin() + static_cast<std::ptrdiff_t>(bytes)});
  };
  send(OpId{op.value + 1000}, {{0, kOk, 1000}}, 1000);   // an op of nobody
  send(op, {{2, kOk, 1000}}, 1000);                      // a tag that was not given
  send(op, {{0xffffffff, kOk, 1000}}, 1000);             // likewise
  send(op, {{0, kOk, 999}}, 999);                        // too short
  send(op, {{0, kOk, 2000}}, 2000);                      // too long
  send(op, {{0, kOk, 1000}}, 999);                       // less payload than it says
  send(op, {{0, kOk, 1000}}, 1001);                      // more
  send(op, {{0, kOk, 1000}}, 0);                         // none
  send(op, {{0, kOk, 1000}, {0, kOk, 1000}}, 2000);      // a tag twice
  send(op, {{0, kOk, 1000}, {9, kOk, 1000}}, 2000);      // one good, one bad
  send(op, {{0, wire::ItemStatus::stale, 1000}}, 1000);  // a failure with bytes
  send(op, {}, 100);                                     // bytes of nothing
  run_for(seconds(1));
  ASSERT_FALSE(result_);
  EXPECT_EQ(one, std::vector<std::byte>(1000));
  EXPECT_EQ(two, std::vector<std::byte>(1000));

  std::vector<std::byte> both = second;
  both.insert(both.end(), first.begin(), first.end());
  node1_.send_data(client, op, {{1, kOk, 1000}, {0, kOk, 1000}}, both);
  node1_.send_data(client, op, {{1, kOk, 1000}, {0, kOk, 1000}},
                   {junk.begin(), junk.begin() + 2000});
  step_until([&] { return result_.has_value(); });
  EXPECT_EQ((*result_)->ok_count(), 2U);
  run_for(milliseconds(100));
  EXPECT_EQ(one, first) << "what came twice was dropped";
  EXPECT_EQ(two, second);
}

TEST_F(FetchEnd, DataFromAnotherNodeThanWasAskedIsDropped) {
  begin();
  publish(1, 1000, {&node1_});
  publish(2, 1000, {&node2_});
  node1_.mood = Mood::hang;
  const Match match = lookup({1, 2}).value();
  std::vector<std::byte> one(1000);
  std::vector<std::byte> two(1000);
  launch(match, {whole(0, one), whole(1, two)}, within(seconds(2)));
  step_until([&] { return !node1_.fetches.empty() && !node2_.fetches.empty(); });
  node2_.send_data(client_at(node2_), node1_.fetches[0].first, {{0, wire::ItemStatus::ok, 1000}},
                   std::vector<std::byte>(1000, std::byte{9}));
  step_until([&] { return result_.has_value(); });
  EXPECT_EQ((*result_)->items[0].why, Errc::timed_out);
  EXPECT_TRUE((*result_)->items[1].ok);
  EXPECT_EQ(one, std::vector<std::byte>(1000));
}

/// Frames are lost, repeated and overtaken, connections break, bits flip.
class FetchUnderFaults : public ClientTest, public testing::WithParamInterface<int> {
 protected:
  static SimFaults faults() {
    SimFaults faults;
    faults.loss = 0.02;
    faults.duplicate = 0.05;
    faults.reorder = 0.1;
    faults.reset = 0.01;
    faults.bit_flip = 0.05;
    return faults;
  }
  FetchUnderFaults() : ClientTest(faults(), static_cast<std::uint64_t>(GetParam())) {}

  struct Running {
    explicit Running(Match pinned) : match(std::move(pinned)) {}
    Match match;
    std::vector<std::byte> expected;
    std::vector<std::byte> into;
    std::vector<std::byte> reported;  ///< `into` when the fetch was reported
    std::optional<Result<TransferReport>> result;
  };
  void launch(Running& running, milliseconds timeout) {
    running.into.resize(running.expected.size());
    data_loop_.spawn(
        put_into(core_->fetch(running.match.state(), std::vector<FetchItem>{whole(0, running.into)},
                              within(timeout), nullptr),
                 running.result));
  }
};

TEST_P(FetchUnderFaults, WhatIsReportedGoodIsRightAndNothingLandsAfterAReport) {
  begin();
  std::list<Running> all;
  for (unsigned number = 0; number < 150; ++number) {
    const std::size_t size = 1000 + 40'000 * (number % 20);
    std::vector<std::byte> bytes = publish(number, size, {&node1_, &node2_});
    step_until([&] { return core_->connected(); });
    Result<Match> match = lookup({number});
    if (!match) continue;
    Running& running = all.emplace_back(std::move(*match));
    running.expected = std::move(bytes);
    launch(running, milliseconds(1 + number % 7 * 100));
    if (number % 40 == 20) network_.pause("node1");
    if (number % 40 == 30) network_.resume("node1");
  }
  network_.resume("node1");
  EXPECT_GT(all.size(), 50U);
  const auto note = [&] {
    std::size_t open = 0;
    for (Running& running : all) {
      if (running.result && running.reported.empty()) running.reported = running.into;
      open += running.result ? 0U : 1U;
    }
    return open == 0;
  };
  step_until(note);
  run_for(seconds(5));
  std::size_t ok = 0;
  for (const Running& running : all) {
    EXPECT_EQ(running.into, running.reported) << "something landed after the report";
    if (!*running.result || !(*running.result)->items[0].ok) continue;
    ++ok;
    EXPECT_EQ(running.into, running.expected);
  }
  EXPECT_GT(ok, 30U);
}

INSTANTIATE_TEST_SUITE_P(Seeds, FetchUnderFaults, testing::Range(1, 21));

TEST_F(FetchEnd, ALaneWhoseHardwareIsDownIsLeftAtOnce) {
  begin();
  publish(1, 50'000, {&node1_});
  node1_.mood = Mood::hang;
  std::vector<std::byte> into(50'000);
  const Match match = lookup({1}).value();
  launch(match, {whole(0, into)});
  step_until([&] { return !node1_.fetches.empty(); });
  core_->lane_down("rdma");
  run_for(milliseconds(5));
  EXPECT_FALSE(result_) << "it goes over another lane";
  const TimePoint begun = clock_.now();
  core_->lane_down("sim");
  step_until([&] { return result_.has_value(); });
  EXPECT_LT(clock_.now() - begun, milliseconds(50)) << "not at some deadline";
  ASSERT_TRUE(*result_);
  EXPECT_EQ((*result_)->items[0].why, Errc::peer_lost);
}

}  // namespace
}  // namespace membrain::client_test
