// What a simulated network does to its processes.
#include <gtest/gtest.h>

#include <set>

#include "tests/transport/sim_party.h"
#include "transport/sim_fabric.h"

namespace membrain::sim_test {
namespace {

class SimFaultsTest : public SimTest {
 protected:
  void send_numbers(int count) {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(a_.fabric().send(to_b_, bytes_of(std::to_string(i))));
    }
  }
  void set(double SimFaults::*probability, double value) {
    SimFaults faults = network_.faults();
    faults.*probability = value;
    network_.set_faults(faults);
  }
  /// Sends 1 MB from a to b and has b post its receive.
  void start_transfer() {
    source_ = pattern(1'000'000, 9);
    sink_.assign(source_.size(), std::byte{0});
    a_.fabric().send(to_b_, bytes_of("bulk"), cut(source_, {}), sent_);
    while (b_.payloads.empty() && network_.step()) {
    }
    ASSERT_EQ(b_.payloads.size(), 1u);
    b_.fabric().receive(std::move(b_.payloads[0]), cut(sink_, {}), received_);
    b_.payloads.clear();
  }

  std::vector<std::byte> source_;
  std::vector<std::byte> sink_;
  Completion sent_{a_.loop().ready()};
  Completion received_{b_.loop().ready()};
};

class SimMessageFaultsTest : public SimTest {
 protected:
  void meet_under(double SimFaults::*probability, double value) {
    meet();
    SimFaults faults;
    faults.*probability = value;
    network_.set_faults(faults);
  }
  std::vector<std::string> send_thousand() {
    std::vector<std::string> sent;
    for (int i = 0; i < 1000; ++i) {
      sent.push_back(std::to_string(i));
      EXPECT_TRUE(a_.fabric().send(to_b_, bytes_of(sent.back())));
    }
    settle();
    return sent;
  }
};

TEST_F(SimMessageFaultsTest, LossLosesAboutAsManyAsItSaysAndKeepsTheOrderOfTheRest) {
  meet_under(&SimFaults::loss, 0.3);
  std::vector<std::string> sent = send_thousand();
  EXPECT_EQ(b_.frames.size() + network_.stats().lost, 1000u);
  EXPECT_NEAR(static_cast<double>(network_.stats().lost), 300, 60);
  std::size_t next = 0;
  for (const std::string& frame : b_.frames) {
    while (next < sent.size() && sent[next] != frame) ++next;
    ASSERT_LT(next++, sent.size());
  }
}

TEST_F(SimMessageFaultsTest, ALostPayloadGivesTheSenderItsMemoryBack) {
  meet_under(&SimFaults::loss, 1.0);
  std::vector<std::byte> source = pattern(100, 1);
  Completion sent(a_.loop().ready());
  a_.fabric().send(to_b_, bytes_of("x"), cut(source, {}), sent);
  EXPECT_FALSE(sent.done());
  settle();
  EXPECT_TRUE(sent.done());
  EXPECT_TRUE(b_.frames.empty());
}

TEST_F(SimMessageFaultsTest, DuplicationRepeatsFramesButNoPayload) {
  meet_under(&SimFaults::duplicate, 1.0);
  send_thousand();
  EXPECT_EQ(b_.frames.size(), 2000u);
  EXPECT_EQ(std::set<std::string>(b_.frames.begin(), b_.frames.end()).size(), 1000u);
  b_.frames.clear();
  std::vector<std::byte> source = pattern(100, 1);
  Completion sent(a_.loop().ready());
  a_.fabric().send(to_b_, bytes_of("x"), cut(source, {}), sent);
  settle();
  EXPECT_EQ(b_.frames.size(), 1u);
  b_.payloads.clear();
  settle();
  EXPECT_TRUE(sent.done());
}

TEST_F(SimMessageFaultsTest, ARepeatedFrameMayComeMuchLater) {
  meet_under(&SimFaults::duplicate, 1.0);
  SimFaults faults = network_.faults();
  faults.duplicate_delay = std::chrono::seconds(10);
  network_.set_faults(faults);
  const TimePoint start = clock_.now();
  const std::vector<std::string> sent = send_thousand();
  const std::vector<std::string> first(b_.frames.begin(), b_.frames.begin() + 500);
  EXPECT_TRUE(std::equal(first.begin(), first.end(), sent.begin()));
  EXPECT_EQ(b_.frames.size(), 2000u);
  EXPECT_GT(clock_.now() - start, std::chrono::seconds(9));
  EXPECT_LT(clock_.now() - start, std::chrono::milliseconds(10'001));
}

TEST_F(SimMessageFaultsTest, ReorderingDeliversAllInAnotherOrder) {
  meet_under(&SimFaults::reorder, 0.2);
  const std::vector<std::string> sent = send_thousand();
  EXPECT_NE(b_.frames, sent);
  EXPECT_TRUE(std::is_permutation(b_.frames.begin(), b_.frames.end(), sent.begin(), sent.end()));
}

TEST_F(SimMessageFaultsTest, AResetIsToldToBothEndsOnce) {
  meet_under(&SimFaults::reset, 1.0);
  ASSERT_TRUE(a_.fabric().send(to_b_, bytes_of("x")));
  settle();
  EXPECT_TRUE(b_.frames.empty());
  EXPECT_EQ(a_.lost, (std::vector<PeerId>{to_b_}));
  EXPECT_EQ(b_.lost, (std::vector<PeerId>{to_a_}));
  EXPECT_FALSE(a_.fabric().send(to_b_, bytes_of("x")));
}

TEST_F(SimFaultsTest, ABitFlipLeavesOneBitOfThePayloadWrong) {
  meet();
  set(&SimFaults::bit_flip, 1.0);
  start_transfer();
  settle();
  EXPECT_TRUE(received_.outcome());
  int wrong_bits = 0;
  for (std::size_t i = 0; i < sink_.size(); ++i) {
    wrong_bits += __builtin_popcount(std::to_integer<unsigned>(sink_[i] ^ source_[i]));
  }
  EXPECT_EQ(wrong_bits, 1);
  EXPECT_EQ(network_.stats().flipped, 1u);
}

// --- Partitions. ---

class SimPartitionTest : public SimTest {};

TEST_F(SimPartitionTest, AShortPartitionHoldsMessagesAndLosesNone) {
  meet();
  network_.partition("a", "b", true);
  std::vector<std::string> sent;
  for (int i = 0; i < 10; ++i) {
    sent.push_back(std::to_string(i));
    ASSERT_TRUE(a_.fabric().send(to_b_, bytes_of(sent.back())));
  }
  run_for(seconds(1));
  EXPECT_TRUE(b_.frames.empty());
  network_.partition("a", "b", false);
  sent.push_back("sent after");
  ASSERT_TRUE(a_.fabric().send(to_b_, bytes_of(sent.back())));
  settle();
  EXPECT_EQ(b_.frames, sent);
  EXPECT_TRUE(a_.lost.empty());
}

TEST_F(SimPartitionTest, ALongPartitionBreaksTheConnection) {
  meet();
  std::vector<std::byte> source = pattern(1000, 1);
  Completion sent(a_.loop().ready());
  network_.partition("a", "b", true);
  a_.fabric().send(to_b_, bytes_of("x"), cut(source, {}), sent);
  run_for(seconds(2));
  EXPECT_FALSE(sent.done());
  run_for(seconds(2));
  ASSERT_TRUE(sent.done());
  EXPECT_EQ(sent.outcome().error().code, Errc::peer_lost);
  EXPECT_EQ(a_.lost, (std::vector<PeerId>{to_b_}));
  EXPECT_EQ(b_.lost, (std::vector<PeerId>{to_a_}));
  network_.heal_partitions();
  settle();
  EXPECT_TRUE(b_.frames.empty());
  EXPECT_TRUE(connect(a_, "b"));
}

TEST_F(SimPartitionTest, AOneWayPartitionHoldsOneDirectionOnly) {
  meet();
  network_.partition_one_way("a", "b", true);
  ASSERT_TRUE(a_.fabric().send(to_b_, bytes_of("held")));
  ASSERT_TRUE(b_.fabric().send(to_a_, bytes_of("passes")));
  run_for(milliseconds(500));
  EXPECT_TRUE(b_.frames.empty());
  EXPECT_EQ(a_.frames, (std::vector<std::string>{"passes"}));
  network_.partition_one_way("a", "b", false);
  settle();
  EXPECT_EQ(b_.frames, (std::vector<std::string>{"held"}));
}

TEST_F(SimPartitionTest, ConnectingAcrossOneTimesOutAtTheDeadlineOrSucceedsWhenItEnds) {
  network_.partition_one_way("b", "a", true);
  const TimePoint start = clock_.now();
  const Result<PeerId> late = connect(a_, "b", milliseconds(350));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Errc::timed_out);
  EXPECT_EQ(clock_.now() - start, milliseconds(350));
  std::optional<Result<PeerId>> got;
  a_.loop().spawn(connect_into(a_.fabric(), "b", clock_.now() + seconds(1), got));
  run_for(milliseconds(500));
  EXPECT_FALSE(got);
  network_.heal_partitions();
  run_for(milliseconds(200));
  ASSERT_TRUE(got);
  EXPECT_TRUE(*got);
}

TEST_F(SimPartitionTest, OthersAreNotParted) {
  Party c(network_, clock_, "c");
  network_.partition("a", "b", true);
  EXPECT_TRUE(connect(c, "b"));
}

TEST_F(SimFaultsTest, ATransferStandsStillDuringAPartition) {
  meet();
  start_transfer();
  network_.partition_one_way("b", "a", true);
  run_for(seconds(1));
  EXPECT_FALSE(received_.done());
  network_.heal_partitions();
  settle();
  EXPECT_TRUE(received_.outcome());
  EXPECT_TRUE(sent_.outcome());
  EXPECT_EQ(sink_, source_);
}

// --- Death. ---

TEST_F(SimFaultsTest, KillingTheSenderEndsItsOperationsAtOnceAndNoByteLandsAfterwards) {
  meet();
  start_transfer();
  run_for(microseconds(700));
  network_.kill("a");
  ASSERT_TRUE(sent_.done());
  EXPECT_EQ(sent_.outcome().error().code, Errc::peer_lost);
  EXPECT_FALSE(received_.done()) << "the survivor notices after a while";
  EXPECT_FALSE(a_.fabric().send(to_b_, bytes_of("from the dead")));
  const std::vector<std::byte> torn = sink_;
  settle();
  EXPECT_EQ(sink_, torn);
  EXPECT_NE(sink_, source_);
  ASSERT_TRUE(received_.done());
  EXPECT_EQ(received_.outcome().error().code, Errc::peer_lost);
  EXPECT_EQ(b_.lost, (std::vector<PeerId>{to_a_}));
  EXPECT_EQ(a_.lost, (std::vector<PeerId>{to_b_}));
}

TEST_F(SimFaultsTest, KillingTheReceiverEndsItsReceivesAtOnceAndTheSenderNotices) {
  meet();
  start_transfer();
  network_.kill("b");
  ASSERT_TRUE(received_.done());
  EXPECT_FALSE(sent_.done());
  settle();
  ASSERT_TRUE(sent_.done());
  EXPECT_EQ(sent_.outcome().error().code, Errc::peer_lost);
  EXPECT_EQ(sink_, std::vector<std::byte>(sink_.size()));
}

class SimKillTest : public SimTest {};

TEST_F(SimKillTest, ADeadProcessNeitherListensNorConnects) {
  meet();
  std::optional<Result<PeerId>> got;
  ASSERT_TRUE(a_.fabric().listen("a"));
  b_.loop().spawn(connect_into(b_.fabric(), "a", clock_.now() + seconds(1), got));
  EXPECT_FALSE(got);
  network_.kill("b");
  settle();
  ASSERT_TRUE(got);
  EXPECT_EQ(got->error().code, Errc::unavailable);
  EXPECT_EQ(connect(a_, "b").error().code, Errc::unavailable);
  EXPECT_EQ(connect(b_, "a").error().code, Errc::unavailable);
  EXPECT_FALSE(b_.fabric().listen("b"));
}

TEST_F(SimKillTest, AllFabricsOfAProcessDieTogetherAndTheNameLivesAgain) {
  Party data(network_, clock_, "b");
  ASSERT_TRUE(data.fabric().listen("b/data"));
  meet();
  const PeerId to_data = connect(a_, "b/data").value();
  network_.kill("b");
  settle();
  EXPECT_EQ(a_.lost.size(), 2u);
  EXPECT_FALSE(a_.fabric().send(to_data, bytes_of("x")));
  Party reborn(network_, clock_, "b");
  ASSERT_TRUE(reborn.fabric().listen("b"));
  const PeerId again = connect(a_, "b").value();
  EXPECT_NE(again, to_b_);
  ASSERT_TRUE(a_.fabric().send(again, bytes_of("welcome")));
  settle();
  EXPECT_EQ(reborn.frames, (std::vector<std::string>{"welcome"}));
  EXPECT_TRUE(b_.frames.empty());
}

TEST_F(SimKillTest, MessagesSentBeforeADeathMayStillArriveButNoneAfterTheLoss) {
  meet();
  ASSERT_TRUE(a_.fabric().send(to_b_, bytes_of("last words")));
  network_.kill("a");
  settle();
  EXPECT_EQ(b_.frames, (std::vector<std::string>{"last words"}));
  EXPECT_EQ(b_.lost.size(), 1u);
}

// --- Pauses and slowness. ---

TEST_F(SimFaultsTest, APausedProcessDoesNothingAndGoesOnWhenResumed) {
  meet();
  int fired = 0;
  Timer timer(b_.loop(), [&] { ++fired; });
  timer.arm(clock_.now() + milliseconds(10));
  start_transfer();
  network_.pause("b");
  EXPECT_TRUE(network_.paused("b"));
  send_numbers(3);
  run_for(seconds(10));
  EXPECT_EQ(fired, 0);
  EXPECT_FALSE(received_.done());
  EXPECT_EQ(b_.frames, (std::vector<std::string>{"bulk"}));
  network_.resume("b");
  settle();
  EXPECT_EQ(fired, 1);
  EXPECT_EQ(b_.frames, (std::vector<std::string>{"bulk", "0", "1", "2"}));
  EXPECT_EQ(sink_, source_);
  EXPECT_TRUE(sent_.outcome());
}

TEST_F(SimKillTest, APausedProcessCanBeKilled) {
  meet();
  network_.pause("b");
  ASSERT_TRUE(a_.fabric().send(to_b_, bytes_of("never read")));
  run_for(milliseconds(10));
  network_.kill("b");
  settle();
  EXPECT_TRUE(b_.frames.empty());
  EXPECT_EQ(b_.lost.size(), 1u);
  EXPECT_EQ(a_.lost.size(), 1u);
}

TEST_F(SimKillTest, ASlowProcessIsReachedLater) {
  meet();
  network_.slow_down("b", seconds(1));
  const TimePoint start = clock_.now();
  ASSERT_TRUE(a_.fabric().send(to_b_, bytes_of("x")));
  settle();
  EXPECT_GE(clock_.now() - start, seconds(1));
  EXPECT_EQ(b_.frames.size(), 1u);
}

}  // namespace
}  // namespace membrain::sim_test
