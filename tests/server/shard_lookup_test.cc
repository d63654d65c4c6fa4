#include <gtest/gtest.h>

#include "tests/server/shard_fixture.h"

namespace membrain::server_test {
namespace {

using wire::LookupRule;

class ShardLookupTest : public ShardTest {
 protected:
  ShardLookupTest() : session_(open()) { register_node(); }
  SessionId session_;
};

TEST_F(ShardLookupTest, APrefixEndsAtTheFirstBlockThatIsMissing) {
  for (const std::uint64_t number : {1U, 2U, 4U}) publish(entry(number));
  const auto found = look(session_, 9, {1, 2, 3, 4});
  EXPECT_EQ(found.prefix_blocks, 2u);
  EXPECT_TRUE(has(found, 0) && has(found, 1) && !has(found, 2) && has(found, 3));
  ASSERT_EQ(found.locations.size(), 2u);
  EXPECT_EQ(found.locations[1].block, 1u);
  EXPECT_EQ(found.locations[1].at, (Location{NodeId{1}, Incarnation{1}, SlotId{2}, 1000,
                                             Generation{102}, Checksum{2, 2}}));
  EXPECT_EQ(shard_->pin_count(), 2u);
}

TEST_F(ShardLookupTest, AWindowNeedsOnlyItsLastBlocks) {
  for (const std::uint64_t number : {1U, 3U, 4U, 6U}) publish(entry(number));
  auto request = looking(session_, 9, {1, 2, 3, 4, 5, 6}, LookupRule::window);
  request.sections[0].window_blocks = 2;
  const auto found = shard_->lookup(request, now_);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->sections[0].prefix_blocks, 4u);
  ASSERT_EQ(found->sections[0].locations.size(), 2u);
  EXPECT_EQ(found->sections[0].locations[0].block, 2u);
  EXPECT_EQ(shard_->pin_count(), 2u);
}

TEST_F(ShardLookupTest, AWindowLongerThanThePrefixNeedsAllOfThePrefix) {
  publish(entry(1));
  auto request = looking(session_, 0, {1, 2}, LookupRule::window);
  request.sections[0].window_blocks = 5;
  EXPECT_EQ(shard_->lookup(request, now_)->sections[0].prefix_blocks, 1u);
  request.sections[0].window_blocks = 0;
  EXPECT_EQ(shard_->lookup(request, now_).error().code, Errc::invalid_argument);
}

TEST_F(ShardLookupTest, AllPinsEveryBlockThatIsThere) {
  for (const std::uint64_t number : {1U, 3U}) publish(entry(number));
  const auto found = look(session_, 9, {1, 2, 3}, LookupRule::all);
  EXPECT_EQ(found.locations.size(), 2u);
  EXPECT_EQ(shard_->pin_count(), 2u);
}

TEST_F(ShardLookupTest, ABlockIsThereOnlyWithAllItsParts) {
  auto half = entry(1);
  publish(half);
  auto request = looking(session_, 9, {1});
  request.sections[0].parts = 2;
  EXPECT_EQ(shard_->lookup(request, now_)->sections[0].prefix_blocks, 0u);
  half.meta.part = 1;
  half.slot = SlotId{50};
  publish(half);
  request.lookup = LookupId{10};
  const auto found = shard_->lookup(request, now_);
  EXPECT_EQ(found->sections[0].prefix_blocks, 1u);
  ASSERT_EQ(found->sections[0].locations.size(), 2u);
  EXPECT_EQ(found->sections[0].locations[1].part, 1u);
  EXPECT_EQ(shard_->pin_count(), 2u);
}

TEST_F(ShardLookupTest, AProbePinsNothingAndNamesNoPlace) {
  publish(entry(1));
  const auto found = look(session_, 0, {1});
  EXPECT_EQ(found.prefix_blocks, 1u);
  EXPECT_TRUE(found.locations.empty());
  EXPECT_EQ(shard_->pin_count(), 0u);
}

TEST_F(ShardLookupTest, ALookupThatComesAgainIsAnsweredFromWhatItPins) {
  publish(entry(1));
  EXPECT_EQ(look(session_, 9, {1, 2}).prefix_blocks, 1u);
  publish(entry(2));
  const auto again = look(session_, 9, {1, 2});
  EXPECT_EQ(again.prefix_blocks, 1u);
  EXPECT_EQ(again.locations.size(), 1u);
  EXPECT_EQ(shard_->pin_count(), 1u);
}

TEST_F(ShardLookupTest, WhatALookupPinsHasItsBitEvenWhenNoReplicaIsLeft) {
  publish_prompt(1, 2);
  EXPECT_EQ(look(session_, 9, {1, 2, 3}).locations.size(), 2u);
  register_node(1, 2);  // the node has come back without them
  const auto again = look(session_, 9, {1, 2, 3});
  EXPECT_TRUE(again.locations.empty());
  EXPECT_TRUE(has(again, 0) && has(again, 1));
  EXPECT_FALSE(has(again, 2));
  EXPECT_EQ(shard_->pin_count(), 2u);
}

TEST_F(ShardLookupTest, ALookupThatFoundNothingPinsNothingWhenItComesAgain) {
  EXPECT_EQ(look(session_, 9, {1}).prefix_blocks, 0u);
  publish(entry(1));
  EXPECT_EQ(look(session_, 9, {1}).prefix_blocks, 0u);
  EXPECT_EQ(shard_->pin_count(), 0u);
}

TEST_F(ShardLookupTest, TwoLookupsOfABlockAreTwoPins) {
  publish(entry(1));
  look(session_, 9, {1});
  look(session_, 10, {1});
  unpin(session_, 9);
  unpin(session_, 9);
  EXPECT_EQ(shard_->pin_count(), 1u);
  EXPECT_TRUE(need(1).empty());
  unpin(session_, 10);
  EXPECT_EQ(need(1).size(), 1u);
}

TEST_F(ShardLookupTest, ABlockThatALookupNamesTwiceIsPinnedOnce) {
  publish(entry(1));
  EXPECT_EQ(look(session_, 9, {1, 1}).prefix_blocks, 2u);
  EXPECT_EQ(shard_->pin_count(), 1u);
}

TEST_F(ShardLookupTest, AnUnpinThatOvertakesItsLookupLeavesATombstone) {
  publish(entry(1));
  unpin(session_, 9);
  EXPECT_TRUE(look(session_, 9, {1}).locations.empty());
  EXPECT_EQ(shard_->pin_count(), 0u);
}

TEST_F(ShardLookupTest, SomeKeysOfALookupCanBeUnpinned) {
  publish_prompt(1, 3);
  look(session_, 9, {1, 2, 3});
  unpin(session_, 9, {2, 3});
  EXPECT_EQ(shard_->pin_count(), 1u);
  EXPECT_EQ(look(session_, 9, {1, 2, 3}).locations.size(), 1u);  // repeated: no new pins
  unpin(session_, 9, {1});
  EXPECT_EQ(shard_->pin_count(), 0u);
  EXPECT_TRUE(look(session_, 9, {1, 2, 3}).locations.empty());
}

TEST_F(ShardLookupTest, UnknownNamespacesAndOtherTenantsAreRefused) {
  auto request = looking(session_, 9, {1});
  request.sections[0].space = NamespaceId{77};
  EXPECT_EQ(shard_->lookup(request, now_).error().code, Errc::invalid_argument);
  const SessionId stranger = hello("another");
  EXPECT_EQ(shard_->open(stranger, opening("a model"), now_).error().code, Errc::denied);
  EXPECT_EQ(shard_->lookup(looking(stranger, 9, {1}), now_).error().code, Errc::denied);
  EXPECT_EQ(shard_->lookup(looking(SessionId{999}, 9, {1}), now_).error().code, Errc::denied);
}

TEST_F(ShardLookupTest, OneAnswerNamesABoundedNumberOfPlaces) {
  std::vector<std::uint64_t> numbers;
  for (std::uint64_t i = 1; i <= 1500; ++i) numbers.push_back(i);
  for (std::uint16_t part = 0; part < 3; ++part) {
    for (const std::uint64_t number : numbers) {
      auto item = entry(number);
      item.meta.part = part;
      item.slot = SlotId{static_cast<std::uint32_t>(number * 4 + part)};
      publish(item);
    }
  }
  auto request = looking(session_, 9, numbers);
  request.sections[0].parts = 3;
  const auto found = shard_->lookup(request, now_);
  EXPECT_EQ(found->sections[0].prefix_blocks, wire::kMaxLocations / 3);
  EXPECT_EQ(found->sections[0].locations.size(), wire::kMaxLocations / 3 * 3);
  EXPECT_EQ(shard_->pin_count(), wire::kMaxLocations / 3 * 3);
}

TEST_F(ShardLookupTest, PinsAreBounded) {
  limits_.max_pins = 2;
  start();
  session_ = open();
  register_node();
  publish_prompt(1, 3);
  EXPECT_EQ(shard_->lookup(looking(session_, 9, {1, 2, 3}), now_).error().code,
            Errc::out_of_capacity);
  EXPECT_EQ(look(session_, 10, {1, 2}).prefix_blocks, 2u);
}

TEST_F(ShardLookupTest, AGrantIsOfALookupThatPins) {
  publish(entry(1));
  look(session_, 9, {1});
  const auto granted = shard_->grant({session_, LookupId{9}, 1000}, now_);
  ASSERT_TRUE(granted);
  EXPECT_EQ(granted->proof.grant, LookupId{9});
  EXPECT_EQ(granted->proof.epoch, Epoch{1});
  EXPECT_EQ(shard_->grant({session_, LookupId{10}, 1000}, now_).error().code, Errc::not_found);
}

TEST_F(ShardLookupTest, AnotherHashSeedOfTheSameModelIsToldOf) {
  EXPECT_FALSE(shard_->open(session_, opening("a model"), now_)->other_seed);
  EXPECT_TRUE(shard_->open(session_, opening("a model", "seed 2"), now_)->other_seed);
  EXPECT_FALSE(shard_->open(session_, opening("another model"), now_)->other_seed);
}

// ---- eras

TEST_F(ShardLookupTest, AClearedNamespaceIsEmptyAtOnce) {
  publish_prompt(1, 2);
  EXPECT_EQ(clear({session_, space_, Era{1}}).value(), Era{2});
  const auto found = look(session_, 0, {1, 2});
  EXPECT_EQ(found.era, Era{2});
  EXPECT_FALSE(has(found, 0));
  EXPECT_EQ(publish(entry(3)), ItemStatus::old_era);
  EXPECT_EQ(tenure_.next_term().eras.at(space_), Era{2});
}

TEST_F(ShardLookupTest, AClearThatComesAgainChangesNothing) {
  EXPECT_EQ(clear({session_, space_, Era{1}}).value(), Era{2});
  EXPECT_EQ(clear({session_, space_, Era{1}}).value(), Era{2});
  EXPECT_FALSE(clear({session_, space_, Era{3}}));
}

TEST_F(ShardLookupTest, WhatWasClearedIsFreedBitByBit) {
  for (std::uint64_t i = 1; i <= Shard::kSweepEntries + 10; ++i) publish(entry(i));
  ASSERT_TRUE(clear({session_, space_, Era{1}}));
  shard_->tick(now_);
  EXPECT_TRUE(shard_->sweeping());
  EXPECT_EQ(blocks(), 10u);
  shard_->tick(now_);
  EXPECT_FALSE(shard_->sweeping());
  EXPECT_EQ(blocks(), 0u);
  std::size_t told = 0;
  for (int i = 0; i < 3; ++i) {
    for (const auto& message : shard_->untold_frees(now_)) told += message.items.size();
  }
  EXPECT_EQ(told, Shard::kSweepEntries + 10);
}

TEST_F(ShardLookupTest, PinnedBlocksOfAnOldEraStayUntilTheyAreUnpinned) {
  publish(entry(1));
  look(session_, 9, {1});
  ASSERT_TRUE(clear({session_, space_, Era{1}}));
  shard_->tick(now_);
  EXPECT_TRUE(shard_->untold_frees(now_).empty());
  auto fresh = entry(1);
  fresh.meta.era = Era{2};
  fresh.slot = SlotId{60};
  EXPECT_EQ(publish(fresh), ItemStatus::ok);
  unpin(session_, 9);
  const auto frees = shard_->untold_frees(now_);
  ASSERT_EQ(frees.size(), 1u);
  EXPECT_EQ(frees[0].items, (std::vector<wire::SlotRef>{slot(1)}));
  EXPECT_EQ(look(session_, 0, {1}).prefix_blocks, 1u);
}

// ---- sessions

TEST_F(ShardLookupTest, ASilentSessionLosesItsPins) {
  publish(entry(1));
  look(session_, 9, {1});
  pass(seconds(10));
  EXPECT_EQ(shard_->pin_count(), 1u);
  pass(seconds(1));
  EXPECT_EQ(shard_->pin_count(), 0u);
  EXPECT_FALSE(shard_->heartbeat(session_, now_));
}

TEST_F(ShardLookupTest, AHeartbeatKeepsASession) {
  publish(entry(1));
  look(session_, 9, {1});
  pass(seconds(60), {session_});
  EXPECT_EQ(shard_->pin_count(), 1u);
}

TEST_F(ShardLookupTest, AServerThatDidNotListenExpiresNobody) {
  publish(entry(1));
  look(session_, 9, {1});
  now_ += seconds(60);
  shard_->tick(now_);
  EXPECT_EQ(shard_->pin_count(), 1u);
  EXPECT_EQ(blocks(), 1u);
  pass(seconds(11));
  EXPECT_EQ(shard_->pin_count(), 0u);
}

TEST_F(ShardLookupTest, AResumedSessionTakesOverWhatItAsserts) {
  publish_prompt(1, 3);
  look(session_, 9, {1, 2, 3});
  shard_->disconnected(session_);
  const SessionId resumed = hello("default", session_);
  EXPECT_EQ(look(resumed, 9, {1, 2}, LookupRule::all).locations.size(), 2u);
  EXPECT_EQ(shard_->pin_count(), 5u);  // the old session's are kept until all are asserted
  EXPECT_TRUE(shard_->list_nodes(resumed, now_));
  EXPECT_EQ(shard_->pin_count(), 2u);
  EXPECT_FALSE(shard_->heartbeat(session_, now_));
}

TEST_F(ShardLookupTest, WhatIsNotAssertedYetIsHeldHoweverLongAssertingTakes) {
  publish_prompt(1, 3);
  look(session_, 8, {1});
  look(session_, 9, {2, 3});
  shard_->disconnected(session_);
  const SessionId resumed = hello("default", session_);
  for (int i = 0; i < 5; ++i) {
    now_ += seconds(4);
    look(resumed, 8, {1}, LookupRule::all);
    shard_->tick(now_);
  }
  EXPECT_EQ(shard_->pin_count(), 4u);
  look(resumed, 9, {2, 3}, LookupRule::all);
  EXPECT_TRUE(shard_->list_nodes(resumed, now_));
  EXPECT_EQ(shard_->pin_count(), 3u);
}

TEST_F(ShardLookupTest, ASessionThatPinsNothingGoesWithItsConnection) {
  shard_->disconnected(session_);
  EXPECT_FALSE(shard_->heartbeat(session_, now_));
}

TEST_F(ShardLookupTest, AnotherTenantsSessionCannotBeTakenOver) {
  publish(entry(1));
  look(session_, 9, {1});
  const SessionId stranger = hello("another", session_);
  EXPECT_TRUE(shard_->list_nodes(stranger, now_));
  EXPECT_EQ(shard_->pin_count(), 1u);
}

TEST_F(ShardLookupTest, SessionsAreBounded) {
  limits_.max_sessions = 2;
  start();
  hello(), hello();
  EXPECT_EQ(shard_->hello({}, SessionId{99}, now_).error().code, Errc::out_of_capacity);
}

TEST_F(ShardLookupTest, CountersTellWhatHappened) {
  publish_prompt(1, 2);
  look(session_, 9, {1, 2, 3});
  const auto stats = shard_->stats();
  const auto counter = [&](const std::string& name) {
    for (const auto& one : stats->counters) {
      if (one.name == name) return one.value;
    }
    ADD_FAILURE() << "no counter " << name;
    return std::uint64_t{0};
  };
  EXPECT_EQ(counter("blocks"), 2u);
  EXPECT_EQ(counter("replicas"), 2u);
  EXPECT_EQ(counter("pinned_blocks"), 2u);
  EXPECT_EQ(counter("pins"), 2u);
  EXPECT_EQ(counter("sessions"), 1u);
  EXPECT_EQ(counter("nodes"), 1u);
  EXPECT_EQ(counter("lookups"), 1u);
  EXPECT_EQ(counter("blocks_looked_up"), 3u);
  EXPECT_EQ(counter("blocks_hit"), 2u);
  EXPECT_EQ(counter("published"), 2u);
  EXPECT_EQ(counter("duplicates"), 0u);
  EXPECT_EQ(counter("evicted"), 0u);
  EXPECT_EQ(counter("corrupt"), 0u);
  EXPECT_EQ(counter("bytes_held"), 2000u);
  EXPECT_EQ(counter("epoch"), 1u);
}

}  // namespace
}  // namespace membrain::server_test
