// What the client decides, without I/O: placement, source choice, circuit, pins, segments.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <vector>

#include "cache/client/circuit.h"
#include "cache/client/pins.h"
#include "cache/client/placement.h"
#include "cache/client/source_choice.h"
#include "cache/memory/segments.h"

namespace membrain {
namespace {

BlockKey key(std::uint64_t number) {
  return {number * 0x9e3779b97f4a7c15, number};
}

std::vector<NodeView> nodes(std::size_t count, bool same_host = false) {
  std::vector<NodeView> views;
  for (std::size_t i = 0; i < count; ++i) {
    views.push_back({NodeId{static_cast<std::uint32_t>(i + 1)}, true, same_host});
  }
  return views;
}

TEST(Placement, PrefersANodeOnTheSameHost) {
  std::vector<NodeView> views = nodes(8);
  views[5].same_host = true;
  for (std::uint64_t i = 1; i < 100; ++i) {
    EXPECT_EQ(choose_node(views, key(i), NodeId{}), views[5].node);
  }
  views[5].usable = false;
  EXPECT_NE(choose_node(views, key(1), NodeId{}), views[5].node);
}

TEST(Placement, SpreadsKeysEvenlyAndMovesOnlyTheShareOfANodeThatLeaves) {
  std::vector<NodeView> views = nodes(4);
  std::map<NodeId, int> shares;
  std::vector<NodeId> before;
  for (std::uint64_t i = 1; i <= 4000; ++i) {
    before.push_back(choose_node(views, key(i), NodeId{}));
    ++shares[before.back()];
  }
  for (const auto& [node, share] : shares) EXPECT_NEAR(share, 1000, 150) << node.value;
  views[2].usable = false;
  for (std::uint64_t i = 1; i <= 4000; ++i) {
    const NodeId now = choose_node(views, key(i), NodeId{});
    if (before[i - 1] != views[2].node) {
      EXPECT_EQ(now, before[i - 1]);
    }
    EXPECT_NE(now, views[2].node);
  }
}

TEST(Placement, SpreadsKeysByFreeRoomAndLoad) {
  constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
  std::vector<NodeView> views = nodes(3);
  views[0].weight = place_weight(100 * kGiB, 60 * kGiB, 0);
  views[1].weight = place_weight(100 * kGiB, 20 * kGiB, 0);
  views[2].weight = place_weight(100 * kGiB, 60 * kGiB, 2 * kGiB);
  std::map<NodeId, int> shares;
  for (std::uint64_t i = 1; i <= 5000; ++i) ++shares[choose_node(views, key(i), NodeId{})];
  EXPECT_NEAR(shares[NodeId{1}], 3000, 200);
  EXPECT_NEAR(shares[NodeId{2}], 1000, 200);
  EXPECT_NEAR(shares[NodeId{3}], 1000, 200);
}

TEST(Placement, AFullNodeStillDrawsALittle) {
  EXPECT_GT(place_weight(1 << 20, 0, 0), 0);
  EXPECT_GT(place_weight(0, 0, 0), 0);
  EXPECT_LT(place_weight(1 << 20, 0, 0), place_weight(1 << 20, 1 << 19, 0));
}

TEST(Placement, NamesNobodyWhenNobodyIsUsable) {
  std::vector<NodeView> views = nodes(2);
  EXPECT_EQ(choose_node(views, key(1), NodeId{1}), NodeId{2});
  views[1].usable = false;
  EXPECT_FALSE(choose_node(views, key(1), NodeId{1}));
  EXPECT_FALSE(choose_node({}, key(1), NodeId{}));
}

std::vector<SourceView> ways(std::size_t count) {
  std::vector<SourceView> views;
  for (const NodeView& node : nodes(count)) views.push_back({.node = node});
  return views;
}

std::vector<FoundReplica> replicas_on(std::vector<std::uint32_t> ids) {
  std::vector<FoundReplica> replicas;
  for (const std::uint32_t id : ids) {
    FoundReplica replica;
    replica.at.node = NodeId{id};
    replicas.push_back(replica);
  }
  return replicas;
}

TEST(SourceChoice, TakesTheSameHostFirstThenTheOthersAndEachOnce) {
  const std::vector<FoundReplica> replicas = replicas_on({1, 2, 3});
  std::vector<SourceView> views = ways(3);
  views[2].node.same_host = true;
  TriedReplicas tried = 0;
  std::vector<std::size_t> order;
  while (const auto next = choose_source(replicas, views, tried, key(7), 0)) {
    order.push_back(*next);
    tried = static_cast<TriedReplicas>(tried | 1U << *next);
  }
  ASSERT_EQ(order.size(), 3U);
  EXPECT_EQ(order[0], 2U);
  std::sort(order.begin(), order.end());
  EXPECT_EQ(order, (std::vector<std::size_t>{0, 1, 2}));
}

TEST(SourceChoice, AvoidsFailedNodesAndPrefersTheFasterTier) {
  std::vector<FoundReplica> replicas = replicas_on({1, 2, 3});
  std::vector<SourceView> views = ways(3);
  views[0].node.usable = false;
  replicas[1].tier = Tier::device;
  for (std::uint64_t i = 0; i < 50; ++i) {
    EXPECT_EQ(choose_source(replicas, views, 0, key(i), i), 2U);
  }
  views[1].node.usable = false;
  views[2].avoided = true;
  EXPECT_FALSE(choose_source(replicas, views, 0, key(1), 0));
}

TEST(SourceChoice, PrefersItsOwnHostsMemoryThenItsGpusThenMemoryElsewhere) {
  std::vector<FoundReplica> replicas = replicas_on({1, 2, 3, 4});
  std::vector<SourceView> views = ways(4);
  replicas[0].tier = replicas[2].tier = Tier::device;
  // 2: a peer's GPU by NVLink; 3: a mapped arena
  views[2].node.same_host = views[3].node.same_host = true;
  for (std::uint64_t i = 0; i < 50; ++i) {
    TriedReplicas tried = 0;
    std::vector<std::size_t> order;
    while (const auto next = choose_source(replicas, views, tried, key(i), i)) {
      order.push_back(*next);
      tried = static_cast<TriedReplicas>(tried | 1U << *next);
    }
    EXPECT_EQ(order, (std::vector<std::size_t>{3, 2, 1, 0})) << "a GPU elsewhere comes last";
  }
}

TEST(SourceChoice, TakesADoubtedLaneOnlyWhereThereIsNoOther) {
  const std::vector<FoundReplica> replicas = replicas_on({1, 2});
  std::vector<SourceView> views = ways(2);
  views[0].doubted = true;
  views[0].node.same_host = true;
  for (std::uint64_t i = 0; i < 50; ++i) {
    EXPECT_EQ(choose_source(replicas, views, 0, key(i), i), 1U);
  }
  views[1].avoided = true;
  EXPECT_EQ(choose_source(replicas, views, 0, key(1), 0), 0U);
}

TEST(SourceChoice, LeavesANearLaneThatIsMuchSlowerByMeasurement) {
  using std::chrono::microseconds;
  const std::vector<FoundReplica> replicas = replicas_on({1, 2, 3});
  std::vector<SourceView> views = ways(3);
  views[0].node.same_host = true;
  views[0].expected = microseconds(399);
  views[1].expected = microseconds(100);
  EXPECT_EQ(choose_source(replicas, views, 0, key(1), 0), 0U) << "near, and not much slower";
  views[0].expected = microseconds(401);
  for (std::uint64_t i = 0; i < 50; ++i) {
    EXPECT_NE(choose_source(replicas, views, 0, key(i), i), 0U);
  }
  views[1].expected = microseconds(500);
  EXPECT_EQ(choose_source(replicas, views, 0, key(1), 0), 0U);
}

TEST(SourceChoice, SpreadsOverWhatIsNotMeasuredAsOverTheBest) {
  const std::vector<FoundReplica> replicas = replicas_on({1, 2});
  std::vector<SourceView> views = ways(2);
  views[0].expected = std::chrono::microseconds(100);
  int first = 0;
  for (std::uint64_t i = 1; i <= 1000; ++i) {
    first += choose_source(replicas, views, 0, key(i), 0) == 0U ? 1 : 0;
  }
  EXPECT_NEAR(first, 500, 100);
}

TEST(SourceChoice, SpreadsKeysOverEqualReplicas) {
  const std::vector<FoundReplica> replicas = replicas_on({1, 2});
  const std::vector<SourceView> views = ways(2);
  int first = 0;
  for (std::uint64_t i = 1; i <= 1000; ++i) {
    first += choose_source(replicas, views, 0, key(i), 0) == 0U ? 1 : 0;
  }
  EXPECT_NEAR(first, 500, 100);
}

TEST(SourceChoice, SpreadsReadsOfOneBlockOverItsReplicasByTheirWeights) {
  const std::vector<FoundReplica> replicas = replicas_on({1, 2, 3});
  std::vector<SourceView> views = ways(3);
  views[2].node.weight = 2;
  std::array<int, 3> taken{};
  for (std::uint64_t salt = 1; salt <= 4000; ++salt) {
    ++taken[*choose_source(replicas, views, 0, key(7), salt)];
  }
  EXPECT_NEAR(taken[0], 1000, 150);
  EXPECT_NEAR(taken[1], 1000, 150);
  EXPECT_NEAR(taken[2], 2000, 150);
}

TEST(Circuit, OpensAtOnceAndSpacesItsAttemptsWithJitter) {
  Circuit circuit(42);
  EXPECT_FALSE(circuit.closed());
  circuit.succeeded();
  EXPECT_TRUE(circuit.closed());
  const TimePoint now{std::chrono::hours(1)};
  Duration whole = Circuit::kFirstDelay;
  for (int i = 0; i < 20; ++i) {
    circuit.failed(now);
    EXPECT_FALSE(circuit.closed());
    EXPECT_GE(circuit.retry_at() - now, whole / 2);
    EXPECT_LE(circuit.retry_at() - now, whole);
    whole = std::min(whole * 2, Circuit::kLongestDelay);
  }
  circuit.succeeded();
  circuit.failed(now);
  EXPECT_LE(circuit.retry_at() - now, Circuit::kFirstDelay) << "a success begins anew";
}

std::vector<LookupId> lookups_of(const std::vector<Unpinning>& batch) {
  std::vector<LookupId> lookups;
  for (const Unpinning& one : batch) lookups.push_back(one.lookup);
  return lookups;
}

TEST(PinRegistry, TellsOfAReleaseUntilItIsAcknowledged) {
  PinRegistry pins;
  pins.hold(LookupId{1}, HeldPin::with(NamespaceId{9}, 1, {key(1)}));
  pins.hold(LookupId{2}, HeldPin::with(NamespaceId{9}, 1, {key(2)}));
  pins.release(LookupId{1});
  pins.release(LookupId{1});
  pins.release(LookupId{3});  // its answer never came
  EXPECT_EQ(pins.held(), (std::vector<LookupId>{LookupId{2}}));
  EXPECT_EQ(lookups_of(pins.unpinning(10, 10)), (std::vector<LookupId>{LookupId{1}, LookupId{3}}));
  const std::vector<Unpinning> first = pins.unpinning(1, 10);
  EXPECT_EQ(lookups_of(first), (std::vector<LookupId>{LookupId{1}}));
  pins.acknowledge(first);
  EXPECT_EQ(lookups_of(pins.unpinning(10, 10)), (std::vector<LookupId>{LookupId{3}}));
  pins.release_all();
  EXPECT_EQ(pins.held_count(), 0U);
  EXPECT_FALSE(pins.unpinned());
}

TEST(PinRegistry, AReleaseOfAllStandsWhenAnEarlierOneOfSomeKeysIsAcknowledged) {
  PinRegistry pins;
  pins.hold(LookupId{1}, HeldPin::with(NamespaceId{9}, 1, {key(1)}));
  pins.release(LookupId{1}, NamespaceId{9}, {key(2), key(3)});
  EXPECT_EQ(pins.held_count(), 1U);
  const std::vector<Unpinning> some = pins.unpinning(10, 10);
  ASSERT_EQ(some.size(), 1U);
  EXPECT_EQ(some[0].keys.size(), 2U);
  pins.release(LookupId{1});
  pins.acknowledge(some);
  const std::vector<Unpinning> all = pins.unpinning(10, 10);
  ASSERT_EQ(all.size(), 1U);
  EXPECT_TRUE(all[0].keys.empty());
  pins.acknowledge(all);
  EXPECT_TRUE(pins.unpinned());
}

TEST(PinRegistry, ABatchIsBoundedByItsKeys) {
  PinRegistry pins;
  for (std::uint64_t i = 1; i <= 5; ++i) {
    pins.release(LookupId{i}, NamespaceId{9}, {key(1), key(2), key(3)});
  }
  EXPECT_EQ(pins.unpinning(10, 7).size(), 2U);
  EXPECT_EQ(pins.unpinning(10, 1).size(), 1U) << "at least one";
}

TEST(SegmentList, JoinsNeighboursAndBouncesWhatIsTooScattered) {
  std::vector<std::byte> memory(10000);
  SegmentList joined;
  const std::vector<Piece> touching = {{memory.data(), 10}, {memory.data() + 10, 20}};
  joined.add(Place(touching));
  ASSERT_EQ(joined.to_receive().size(), 1U);
  EXPECT_EQ(joined.to_receive()[0].size, 30U);

  std::vector<Piece> crumbs;
  for (std::size_t i = 0; i < 5000; ++i) crumbs.push_back({memory.data() + 2 * i, 1});
  SegmentList scattered;
  scattered.add(Place(crumbs));
  const std::span<const Segment> into = scattered.to_receive();
  ASSERT_EQ(into.size(), 1U);
  ASSERT_EQ(into[0].size, 5000U);
  for (std::size_t i = 0; i < 5000; ++i) into[0].data[i] = static_cast<std::byte>(i % 251);
  scattered.scatter();
  for (std::size_t i = 0; i < 5000; ++i) {
    ASSERT_EQ(memory[2 * i], static_cast<std::byte>(i % 251));
    ASSERT_EQ(memory[2 * i + 1], std::byte{0});
  }
}

}  // namespace
}  // namespace membrain
