// Nodes that fail are left alone, and found again; the rest of a batch does not notice.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/client/fetch_fixture.h"

namespace membrain::client_test {
namespace {

using Mood = FakeNode::Mood;

/// Blocks 0 to 9 are on node 1 alone, 10 to 19 on node 2 alone.
class NodeCircuit : public FetchTest {
 protected:
  static constexpr std::uint32_t kEach = 10;
  static constexpr std::size_t kSize = 4000;

  void prepare() {
    begin();
    for (unsigned i = 0; i < 2 * kEach; ++i) {
      expected_.push_back(publish(i, kSize, {i < kEach ? &node1_ : &node2_}));
    }
  }
  /// Fetches some blocks; how many came, and all of them right.
  Result<TransferReport> fetch_some(std::uint32_t first, std::uint32_t count,
                                    milliseconds timeout = milliseconds(300)) {
    std::vector<unsigned> numbers;
    std::vector<FetchItem> items;
    std::vector<std::vector<std::byte>> into(count, std::vector<std::byte>(kSize));
    for (std::uint32_t i = 0; i < count; ++i) {
      numbers.push_back(first + i);
      items.push_back(whole(i, into[i]));
    }
    const Match match = lookup(numbers).value();
    const TimePoint before = clock_.now();
    TransferOptions options = within(timeout);
    options.on_item = [&](std::size_t item, const ItemOutcome&) {
      if (first + item >= kEach) second_node_took_ = clock_.now() - before;
    };
    Result<TransferReport> report = fetch(match, items, options);
    took_ = clock_.now() - before;
    for (std::uint32_t i = 0; report && i < count; ++i) {
      if (report->items[i].ok) {
        EXPECT_EQ(into[i], expected_[first + i]);
      }
    }
    return report;
  }
  void open_circuit() {
    node1_.mood = Mood::hang;
    for (std::uint32_t i = 0; i < Breaker::kFailuresToOpen; ++i) {
      EXPECT_EQ(fetch_some(0, 1)->items[0].why, Errc::timed_out);
    }
  }

  std::vector<std::vector<std::byte>> expected_;
  Duration took_{};
  Duration second_node_took_{};
};

TEST_F(NodeCircuit, OpensAfterThreeFailuresAndThenMissesAtOnce) {
  prepare();
  open_circuit();
  const std::size_t asked = node1_.fetches.size();
  EXPECT_EQ(asked, Breaker::kFailuresToOpen);
  const Result<TransferReport> report = fetch_some(0, 2 * kEach);
  EXPECT_EQ(took_, second_node_took_);
  EXPECT_LE(took_, milliseconds(2)) << "nobody waits for what is not there";
  EXPECT_EQ(report->ok_count(), kEach);
  EXPECT_EQ(report->detours.circuit_open, kEach);
  EXPECT_EQ(report->items[0].why, Errc::peer_lost);
  EXPECT_EQ(node1_.fetches.size(), asked);
  static_cast<void>(fetch_some(0, kEach));
  EXPECT_EQ(took_, Duration::zero()) << "without any delay";
}

TEST_F(NodeCircuit, IsProbedByOneBlockWhileTheOthersMissAtOnce) {
  prepare();
  open_circuit();
  run_for(seconds(2));
  const std::size_t asked = node1_.fetches.size();
  const Result<TransferReport> report = fetch_some(0, kEach);
  ASSERT_EQ(node1_.fetches.size(), asked + 1);
  EXPECT_EQ(node1_.fetches.back().second.items.size(), 1U);
  EXPECT_EQ(report->detours.circuit_open, kEach - 1);
  EXPECT_EQ(report->ok_count(), 0U);
  static_cast<void>(fetch_some(0, kEach));
  EXPECT_EQ(took_, Duration::zero()) << "the probe has failed";
}

TEST_F(NodeCircuit, ClosesWithTheFirstAnswer) {
  prepare();
  open_circuit();
  node1_.mood = Mood::serve;
  run_for(seconds(1));
  EXPECT_EQ(fetch_some(0, kEach)->ok_count(), 1U) << "the probe";
  EXPECT_EQ(fetch_some(0, kEach)->ok_count(), kEach);
}

TEST_F(NodeCircuit, ClosesAtOnceForANewLifeOfTheNode) {
  wire::NodeEntry reborn = node1_.entry();
  reborn.incarnation = Incarnation{2};
  NodeLinks links(*data_, "here", seconds(1));
  links.update({node1_.entry()});
  for (int i = 0; i < 3; ++i) links.lanes().failed(NodeId{1}, clock_.now(), {});
  EXPECT_TRUE(links.source(NodeId{1}, 1).avoided);
  links.update({node1_.entry()});
  EXPECT_TRUE(links.source(NodeId{1}, 1).avoided) << "a list of nodes proves nothing";
  links.update({reborn});
  EXPECT_FALSE(links.source(NodeId{1}, 1).avoided);
}

TEST_F(NodeCircuit, ClosesAtOnceForANodeThatTheServersCallAliveAgain) {
  NodeLinks links(*data_, "here", seconds(1));
  const wire::NodeEntry alive = node1_.entry();
  wire::NodeEntry dead = alive;
  dead.alive = false;
  const auto open = [&] {
    for (int i = 0; i < 3; ++i) links.lanes().failed(NodeId{1}, clock_.now(), {});
    EXPECT_TRUE(links.source(NodeId{1}, 1).avoided);
  };
  links.update({alive});
  open();
  links.update({dead});
  EXPECT_FALSE(links.source(NodeId{1}, 1).node.usable);
  links.update({alive});
  EXPECT_FALSE(links.source(NodeId{1}, 1).avoided);
  open();
  links.update({});
  EXPECT_TRUE(links.source(NodeId{1}, 1).avoided) << "that it is not listed proves nothing";
  links.update({alive});
  EXPECT_FALSE(links.source(NodeId{1}, 1).avoided);
}

TEST_F(NodeCircuit, ANodeThatComesBackIsUsedWithTheNextFetchAndWhole) {
  prepare();
  ASSERT_EQ(fetch_some(0, kEach)->ok_count(), kEach);
  network_.pause("node1");
  for (int i = 0; i < 20; ++i) static_cast<void>(fetch_some(0, kEach));
  ASSERT_EQ(fetch_some(0, kEach)->detours.circuit_open, kEach);
  node1_.alive = false;
  run_for(milliseconds(shard_.ttl_ms));
  network_.resume("node1");
  node1_.alive = true;
  run_for(milliseconds(shard_.ttl_ms));
  EXPECT_EQ(fetch_some(0, kEach)->ok_count(), kEach);
}

TEST_F(NodeCircuit, AHiccupBlanksANodeOutForTwoSecondsAtMost) {
  prepare();
  ASSERT_EQ(fetch_some(0, kEach)->ok_count(), kEach);
  network_.partition("client", "node1", true);
  for (int i = 0; i < 100; ++i) {
    static_cast<void>(fetch_some(0, kEach));
    run_for(milliseconds(200));
  }
  network_.heal_partitions();
  const TimePoint healed = clock_.now();
  while (fetch_some(0, kEach)->ok_count() != kEach) run_for(milliseconds(10));
  EXPECT_LE(clock_.now() - healed, seconds(2) + config_.connect_timeout);
}

TEST_F(NodeCircuit, IsProbedAtOnceWhenAConnectionIsMade) {
  prepare();
  network_.partition("client", "node1", true);
  for (int i = 0; i < 3; ++i) static_cast<void>(fetch_some(0, 1, milliseconds(120)));
  EXPECT_EQ(fetch_some(0, kEach)->detours.circuit_open, kEach);
  network_.heal_partitions();
  run_for(network_.faults().connect_retry + milliseconds(5));
  EXPECT_EQ(fetch_some(0, kEach)->ok_count(), 1U) << "the probe";
  EXPECT_EQ(fetch_some(0, kEach)->ok_count(), kEach);
}

TEST_F(NodeCircuit, LargeBlocksThatAreStillComingAtTheDeadlineAreNoSilence) {
  prepare();
  SimFaults slow = network_.faults();
  slow.bytes_per_second = 10'000;  // 400 ms a block
  network_.set_faults(slow);
  const Match match = lookup({0}).value();
  std::vector<std::vector<std::byte>> into(5, std::vector<std::byte>(kSize));
  std::list<std::optional<Result<TransferReport>>> results;
  for (std::vector<std::byte>& memory : into) {
    data_loop_.spawn(put_into(core_->fetch(match.state(), std::vector<FetchItem>{whole(0, memory)},
                                           within(milliseconds(200)), nullptr),
                              results.emplace_back()));
  }
  step_until([&] {
    return std::ranges::all_of(results, [](const auto& one) { return one.has_value(); });
  });
  network_.set_faults({});
  EXPECT_EQ(fetch_some(0, kEach)->ok_count(), kEach);
}

TEST_F(NodeCircuit, AnAnswerOfAnyKindIsASignOfLife) {
  prepare();
  for (const Mood mood : {Mood::stale, Mood::refuse}) {
    node1_.mood = mood;
    for (int i = 0; i < 10; ++i) EXPECT_EQ(fetch_some(0, 1)->detours.circuit_open, 0U);
  }
  EXPECT_EQ(node1_.fetches.size(), 20U);
}

TEST_F(NodeCircuit, AShortDeadlineIsNotHeldAgainstANode) {
  prepare();
  network_.slow_down("node1", milliseconds(20));
  ASSERT_EQ(fetch_some(0, 1)->ok_count(), 1U);
  for (int i = 0; i < 10; ++i) static_cast<void>(fetch_some(0, 1, milliseconds(5)));
  EXPECT_EQ(fetch_some(0, kEach)->ok_count(), kEach);
}

TEST_F(NodeCircuit, ADeadNodeDoesNotDisturbTheRestOfABatch) {
  prepare();
  ASSERT_EQ(fetch_some(0, 2 * kEach)->ok_count(), 2 * kEach);
  const Duration undisturbed = second_node_took_;
  network_.kill("node1");
  for (int round = 0; round < 10; ++round) {
    EXPECT_EQ(fetch_some(0, 2 * kEach)->ok_count(), kEach);
    EXPECT_LE(second_node_took_, undisturbed + milliseconds(1));
    EXPECT_LE(took_, milliseconds(310));
  }
  EXPECT_LE(took_, milliseconds(2)) << "after a while nobody waits for it";
}

TEST_F(NodeCircuit, KeepsStoresAwayFromANodeThatHangs) {
  prepare();
  open_circuit();
  const std::size_t asked = node1_.stores.size();
  const std::vector<std::byte> bytes = content(kSize, 5);
  for (unsigned i = 100; i < 120; ++i) {
    StoreItem item;
    item.hash = hash_of(i);
    item.from = {{bytes.data(), bytes.size()}};
    const Result<TransferReport> report = store({item});
    EXPECT_EQ(report->ok_count(), 1U);
  }
  EXPECT_EQ(node1_.stores.size(), asked);
  EXPECT_EQ(node2_.stores.size(), 20U);
}

TEST_F(NodeCircuit, IsOpenedByStoresThatAreNotAnswered) {
  prepare();
  node1_.mood = node2_.mood = Mood::hang;
  const std::vector<std::byte> bytes = content(kSize, 5);
  std::size_t hung = 0;
  for (unsigned i = 100; i < 130; ++i) {
    StoreItem item;
    item.hash = hash_of(i);
    item.from = {{bytes.data(), bytes.size()}};
    const TimePoint before = clock_.now();
    TransferOptions options;
    options.timeout = milliseconds(1500);
    EXPECT_EQ(store({item}, options)->ok_count(), 0U);
    hung += clock_.now() - before > milliseconds(100) ? 1U : 0U;
  }
  EXPECT_GE(hung, 2 * Breaker::kFailuresToOpen);
  EXPECT_LE(hung, 20U) << "three each, and probes that become rare";
}

/// Blocks on both nodes, asked for one by one.
TEST_F(FetchTest, RetriesStayFewWhenManyFail) {
  constexpr std::uint32_t kMany = 100;
  node1_.host = "here";
  begin();
  publish(0, 100, {&node1_, &node2_});
  const Match match = lookup({0}).value();
  std::vector<std::byte> warm(100);
  ASSERT_EQ(fetch(match, {whole(0, warm)})->ok_count(), 1U);
  node1_.mood = Mood::hang;
  std::vector<std::vector<std::byte>> into(kMany, std::vector<std::byte>(100));
  std::list<std::optional<Result<TransferReport>>> results;
  for (std::uint32_t i = 0; i < kMany; ++i) {
    data_loop_.spawn(put_into(
        core_->fetch(match.state(), std::vector<FetchItem>{whole(0, into[i])}, {}, nullptr),
        results.emplace_back()));
  }
  step_until([&] { return node1_.fetches.size() == kMany + 1; });
  node1_.close(node1_.last_peer);
  step_until([&] {
    return std::ranges::all_of(results, [](const auto& one) { return one.has_value(); });
  });
  Detours sum;
  std::size_t ok = 0;
  for (const auto& one : results) {
    sum += (*one)->detours;
    ok += (*one)->ok_count();
  }
  EXPECT_EQ(sum.retried + sum.withheld, kMany);
  EXPECT_EQ(ok, sum.retried);
  EXPECT_GE(sum.retried, 32U);
  EXPECT_LE(sum.retried, 40U) << "the burst, and a tenth of what went well";
  EXPECT_EQ(node2_.fetches.size(), sum.retried);
}

}  // namespace
}  // namespace membrain::client_test
