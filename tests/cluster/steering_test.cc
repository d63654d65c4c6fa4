#include "server/cluster/steering.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "server/cluster/kv_state.h"

namespace membrain {
namespace {

using std::chrono::seconds;

class Steering : public testing::Test {
 protected:
  LeaseId server(const std::string& name) {
    const LeaseId lease = state_.grant(seconds(10), TimePoint{});
    put(names_.server(name), name + ":9201", lease);
    return lease;
  }
  void put(const std::string& key, const std::string& value, LeaseId lease = {}) {
    CoordinationChange change;
    change.puts.push_back({key, value, lease});
    ASSERT_TRUE(state_.commit(change));
  }
  [[nodiscard]] SteeredCluster cluster() const {
    return steered(state_.read(names_.root()), names_).value();
  }
  void shards(std::size_t count) { put(names_.map(), ShardMap::equal(count).text()); }
  void leads(std::uint32_t shard, LeaseId lease) {
    put(names_.leader(ShardId{shard}), "somewhere", lease);
  }
  static std::size_t moves(const SteeredCluster& from, const std::map<ShardId, std::string>& to) {
    return static_cast<std::size_t>(std::ranges::count_if(
        from.shards, [&](const auto& one) { return to.at(one.shard) != one.leader; }));
  }
  static std::size_t of(const std::map<ShardId, std::string>& to, const std::string& name) {
    return static_cast<std::size_t>(
        std::ranges::count_if(to, [&](const auto& one) { return one.second == name; }));
  }

  KvState state_;
  const ClusterNames names_{"here"};
};

TEST_F(Steering, SeesWhoLeadsWhatAndWhoIsWanted) {
  EXPECT_EQ(steered(state_.read(names_.root()), names_).error().code, Errc::not_found);
  shards(3);
  const LeaseId one = server("one");
  server("two");
  leads(0, one), leads(2, one);
  put(names_.wanted(ShardId{2}), "two");
  const SteeredCluster seen = cluster();
  ASSERT_EQ(seen.shards.size(), 3U);
  EXPECT_EQ(seen.servers.size(), 2U);
  EXPECT_EQ(seen.shards[0].leader, "one");
  EXPECT_NE(seen.shards[0].epoch, Epoch{});
  EXPECT_EQ(seen.shards[1].leader, "");
  EXPECT_EQ(seen.shards[1].epoch, Epoch{});
  EXPECT_EQ(seen.shards[2].wanted, "two");
  EXPECT_EQ(seen.find(ShardId{2})->range, seen.map.range(2));
  EXPECT_EQ(seen.find(ShardId{9}), nullptr);
}

TEST_F(Steering, SpreadsShardsEvenlyWithAsFewMovesAsThatTakes) {
  shards(8);
  const LeaseId one = server("one");
  for (std::uint32_t i = 0; i < 8; ++i) leads(i, one);
  server("two"), server("three");
  const auto to = spread(cluster(), "").value();
  EXPECT_EQ(of(to, "one"), 3U);
  EXPECT_EQ(of(to, "two") + of(to, "three"), 5U);
  EXPECT_GE(of(to, "two"), 2U);
  EXPECT_GE(of(to, "three"), 2U);
  EXPECT_EQ(moves(cluster(), to), 5U);
}

TEST_F(Steering, LeavesWhatIsEvenAsItIs) {
  shards(5);
  const LeaseId one = server("one");
  const LeaseId two = server("two");
  for (std::uint32_t i = 0; i < 5; ++i) leads(i, i % 2 == 0 ? one : two);
  EXPECT_EQ(moves(cluster(), spread(cluster(), "").value()), 0U);
}

TEST_F(Steering, ADrainedServerGetsNothing) {
  shards(4);
  const LeaseId one = server("one");
  const LeaseId two = server("two");
  for (std::uint32_t i = 0; i < 4; ++i) leads(i, i < 2 ? one : two);
  const auto to = spread(cluster(), "two").value();
  EXPECT_EQ(of(to, "one"), 4U);
  EXPECT_EQ(spread(cluster(), "one").value().size(), 4U);
}

TEST_F(Steering, WithNobodyElseAliveNothingIsSpread) {
  shards(2);
  server("one");
  EXPECT_EQ(spread(cluster(), "one").error().code, Errc::unavailable);
}

TEST_F(Steering, NumbersTheUpperHalfOfASplitBehindAllOthers) {
  put(names_.map(), ShardMap::equal(2).split(ShardId{1}, ShardId{6})->text());
  server("one");
  const WishedSplit wish = wishing_split(cluster(), names_, ShardId{6}).value();
  EXPECT_EQ(wish.fresh, ShardId{7});
  EXPECT_EQ(wish.change.puts.at(0).key, names_.split(ShardId{6}));
  EXPECT_EQ(wishing_split(cluster(), names_, ShardId{5}).error().code, Errc::not_found);
}

TEST_F(Steering, WishesForEachShardOneServer) {
  const CoordinationChange change = wishing(names_, {{ShardId{3}, "one"}, {ShardId{4}, "two"}});
  ASSERT_EQ(change.puts.size(), 2U);
  EXPECT_EQ(change.puts[1].key, names_.wanted(ShardId{4}));
  EXPECT_EQ(change.puts[1].value, "two");
}

}  // namespace
}  // namespace membrain
