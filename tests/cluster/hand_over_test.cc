// Leaders that make way for others, and shards that are split.
#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "protocol/shard_map.h"
#include "tests/cluster/election_fixture.h"

namespace membrain::election_test {
namespace {

class HandOver : public ElectionTest {
 protected:
  /// Somebody writes a wish, or forgets it.
  void put(const std::string& key, const std::string& value) {
    CoordinationChange change;
    change.puts.push_back({key, value, LeaseId{}});
    ASSERT_TRUE(coordinator_.state.commit(change));
  }
  [[nodiscard]] ShardMap map() const {
    return ShardMap::parse(coordinator_.state.read(names_.map()).entries.at(0).value).value();
  }
  const ClusterNames names_{"membrain"};
};

TEST_F(HandOver, ALeaderMakesWayForWhoIsWantedAndOnlyForTheLiving) {
  Candidate& one = candidate("one");
  pass(milliseconds(500));
  Candidate& two = candidate("two");
  Candidate& three = candidate("three");
  pass(milliseconds(500));
  ASSERT_TRUE(one.leads());
  put(names_.wanted(ShardId{0}), "nobody of that name");
  pass(seconds(3));
  EXPECT_TRUE(one.leads());
  put(names_.wanted(ShardId{0}), "three");
  pass(milliseconds(800));
  EXPECT_TRUE(three.leads());
  EXPECT_GT(three.terms.at(0).epoch, one.terms.at(0).epoch);
  EXPECT_EQ(one.terms.size(), 1U) << "it does not come back";
  three.loop.spawn(stop(three));
  pass(seconds(3));
  EXPECT_TRUE(one.leads() || two.leads()) << "who is wanted is gone: anybody leads";
}

TEST_F(HandOver, ASplitEndsTheTermAndBothHalvesHaveTermsOfTheirOwn) {
  put(names_.map(), ShardMap().text());
  Candidate& one = candidate("one");
  pass(milliseconds(500));
  ASSERT_TRUE(one.leads());
  EXPECT_EQ(one.terms.at(0).range, KeyRange());
  const NamespaceId space{0xabc};
  ASSERT_TRUE(await(one, one.election.set_era(one.terms.at(0).epoch, space, Era{4})));
  put(names_.split(ShardId{0}), "7");
  pass(seconds(1));
  ASSERT_EQ(map().count(), 2U);
  EXPECT_EQ(map().version(), 2U);
  EXPECT_EQ(map().shard(1), ShardId{7});
  ASSERT_EQ(one.terms.size(), 2U);
  EXPECT_TRUE(one.leads());
  EXPECT_EQ(one.terms.at(1).range, map().range(0));
  EXPECT_EQ(one.terms.at(1).map_version, 2U);
  EXPECT_FALSE(one.terms.at(1).first) << "pins may come back";

  Candidate upper(clock_, coordinator_, "upper", ShardId{7});
  for (int i = 0; i < 500; ++i) {
    pass(milliseconds(1));
    while (upper.loop.turn()) continue;
  }
  ASSERT_TRUE(upper.leads());
  EXPECT_EQ(upper.terms.at(0).range, map().range(1));
  EXPECT_EQ(upper.terms.at(0).eras.at(space), Era{4}) << "what was cleared is cleared in it too";
  EXPECT_FALSE(upper.terms.at(0).first) << "its blocks were pinned before it was";
  EXPECT_TRUE(coordinator_.state.read(names_.split(ShardId{0})).entries.empty());
  upper.loop.spawn(stop(upper));
  for (int i = 0; i < 2000 && !upper.stopped; ++i) {
    pass(milliseconds(1));
    while (upper.loop.turn()) continue;
  }
}

class SplitAmidClears : public HandOver, public testing::WithParamInterface<int> {};

TEST_P(SplitAmidClears, BothHalvesHaveEveryEraThatWasSetInTheirTerm) {
  put(names_.map(), ShardMap().text());
  Candidate& one = candidate("one");
  pass(milliseconds(500));
  const Epoch epoch = one.terms.at(0).epoch;
  const NamespaceId space{0xabc};
  put(names_.split(ShardId{0}), "7");
  pass(milliseconds(GetParam()));
  std::optional<Result<>> set;
  one.loop.spawn(put_into(one.election.set_era(epoch, space, Era{2}), set));
  while (!set) pass(milliseconds(1));
  const bool told = *set && one.leads() && one.terms.size() == 1;
  pass(seconds(1));
  ASSERT_EQ(map().count(), 2U);
  const CoordinationView view = coordinator_.state.read(names_.eras(ShardId{7}));
  EXPECT_TRUE(!told || view.find(names_.era(ShardId{7}, space)) != nullptr);
}

INSTANTIATE_TEST_SUITE_P(AtEveryMoment, SplitAmidClears, testing::Range(0, 60));

TEST_F(HandOver, AWishThatMakesNoSenseIsForgottenAndTheTermGoesOn) {
  put(names_.map(), ShardMap().text());
  Candidate& one = candidate("one");
  pass(milliseconds(500));
  for (const char* fresh : {"0", "x", ""}) {
    put(names_.split(ShardId{0}), fresh);
    pass(seconds(1));
    EXPECT_EQ(map().count(), 1U);
    EXPECT_TRUE(one.leads());
    EXPECT_EQ(one.terms.size(), 1U);
  }
}

TEST_F(HandOver, LostCallsSplitOnceAndMoveAtLast) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    random_ = SimRandom(seed);
    put(names_.map(), ShardMap().text());
    Candidate& one = candidate("one" + std::to_string(seed));
    Candidate& two = candidate("two" + std::to_string(seed));
    pass(seconds(2));
    coordinator_.lost_ask = coordinator_.lost_answer = 0.3;
    put(names_.split(ShardId{0}), "1");
    put(names_.wanted(ShardId{0}), "two" + std::to_string(seed));
    pass(seconds(20));
    coordinator_.lost_ask = coordinator_.lost_answer = 0;
    pass(seconds(15));
    EXPECT_EQ(map().count(), 2U);
    ASSERT_TRUE(two.leads()) << "seed " << seed;
    EXPECT_EQ(two.terms.back().map_version, 2U);
    one.loop.spawn(stop(one));
    two.loop.spawn(stop(two));
    pass(seconds(1));
  }
}

}  // namespace
}  // namespace membrain::election_test
