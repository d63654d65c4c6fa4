// What a lookup finds, pins and gives back.
#include <gtest/gtest.h>

#include "tests/client/fake_cluster.h"

namespace membrain::client_test {
namespace {

using Lookups = ClientTest;

LookupOptions options_of(LookupOptions::Mode mode, LookupOptions::Rule rule) {
  LookupOptions options;
  options.mode = mode;
  options.rule = rule;
  return options;
}

constexpr auto kPin = LookupOptions::Mode::pin;
constexpr auto kProbe = LookupOptions::Mode::probe;
constexpr auto kPrefix = LookupOptions::Rule::prefix;
constexpr auto kAll = LookupOptions::Rule::all;

TEST_F(Lookups, FindsTheLongestPrefixAndPinsNothingBeyondIt) {
  begin();
  for (const unsigned number : {1U, 2U, 4U}) publish(number, 1000 + number, {&node1_});
  const Result<Match> match = lookup({1, 2, 3, 4});
  ASSERT_TRUE(match);
  EXPECT_EQ(match->block_count(), 4U);
  EXPECT_EQ(match->prefix_blocks(), 2U);
  EXPECT_TRUE(match->has(1));
  EXPECT_FALSE(match->has(2));
  EXPECT_EQ(match->part_bytes(1), 1002U);
  EXPECT_EQ(match->part_bytes(3), 0U) << "there, but not pinned";
  EXPECT_TRUE(match->pinned());
  EXPECT_EQ(shard_.pins.size(), 1U);
}

TEST_F(Lookups, AMissIsUnpinnedForACopyOfItsRequestMayYetPin) {
  begin();
  EXPECT_FALSE(lookup({1, 2})->pinned());
  step_until([&] { return !shard_.unpins.empty(); });
  EXPECT_TRUE(shard_.unpins[0].items[0].keys.empty()) << "all of it";
}

TEST_F(Lookups, WhatIsThereButNowhereIsUnpinnedForAFirstAnswerMayHaveBeenLost) {
  begin();
  shard_.ghosts = {key_of(1)};
  const Match match = lookup({1, 2}).value();
  EXPECT_FALSE(match.pinned());
  EXPECT_FALSE(match.has(0));
  EXPECT_EQ(match.prefix_blocks(), 0U);
  step_until([&] { return !shard_.unpins.empty(); });
  EXPECT_EQ(shard_.unpins[0].items[0].lookup, shard_.lookups[0].lookup);
  EXPECT_TRUE(shard_.unpins[0].items[0].keys.empty()) << "all of it";
}

TEST_F(Lookups, OfALookupThatHoldsSomethingOnlyWhatHasNoPlaceIsUnpinned) {
  begin();
  publish(1, 100, {&node1_});
  shard_.ghosts = {key_of(3)};
  const Match match = lookup({1, 2, 3}).value();
  EXPECT_EQ(match.prefix_blocks(), 1U);
  step_until([&] { return !shard_.unpins.empty(); });
  EXPECT_EQ(shard_.unpins[0].items[0].keys, (std::vector<BlockKey>{key_of(2), key_of(3)}));
}

TEST_F(Lookups, APrefixEndsBeforeWhatHasNoPlaceAnyMore) {
  begin();
  for (const unsigned number : {1U, 2U, 4U}) publish(number, 100, {&node1_});
  shard_.ghosts = {key_of(3)};
  const Match match = lookup({1, 2, 3, 4}).value();
  EXPECT_EQ(match.prefix_blocks(), 2U);
  const Match any = lookup({1, 2, 3, 4}, options_of(kPin, kAll)).value();
  EXPECT_EQ(any.prefix_blocks(), 2U);
  EXPECT_FALSE(any.has(2));
  EXPECT_TRUE(any.has(3));
}

TEST_F(Lookups, AWindowInWhichOneHasNoPlaceAnyMoreIsNoHit) {
  begin();
  for (const unsigned number : {1U, 3U}) publish(number, 100, {&node1_});
  shard_.ghosts = {key_of(2)};
  LookupOptions options;
  options.rule = LookupOptions::Rule::window;
  options.window_blocks = 2;
  EXPECT_EQ(lookup({1, 2, 3}, options)->prefix_blocks(), 0U);
  options.window_blocks = 1;
  EXPECT_EQ(lookup({1, 2, 3}, options)->prefix_blocks(), 3U);
}

TEST_F(Lookups, AKeyThatIsAskedForTwiceIsNotUnpinnedWhereItIsMissed) {
  begin();
  publish(1, 100, {&node1_});
  const Match match = lookup({1, 2, 1}).value();
  EXPECT_EQ(match.prefix_blocks(), 1U);
  step_until([&] { return !shard_.unpins.empty(); });
  EXPECT_EQ(shard_.unpins[0].items[0].keys, (std::vector<BlockKey>{key_of(2)}));
}

TEST_F(Lookups, AProbePinsNothingAndCannotBeFetchedFrom) {
  begin();
  publish(1, 100, {&node1_});
  publish(3, 100, {&node1_});
  const Result<Match> match = lookup({1, 2, 3}, options_of(kProbe, kAll));
  ASSERT_TRUE(match);
  EXPECT_TRUE(match->has(0) && !match->has(1) && match->has(2));
  EXPECT_EQ(match->prefix_blocks(), 1U);
  EXPECT_FALSE(match->pinned());
  EXPECT_TRUE(shard_.pins.empty());
  std::vector<std::byte> into(100);
  const Result<TransferReport> report = fetch(*match, {whole(0, into)});
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, Errc::invalid_argument);
}

TEST_F(Lookups, ABlockIsThereOnlyWithAllItsParts) {
  begin();
  publish(1, 100, {&node1_}, 0);
  publish(1, 120, {&node2_}, 1);
  publish(2, 100, {&node1_}, 0);
  LookupOptions options = options_of(kPin, kPrefix);
  options.parts = 2;
  const Result<Match> match = lookup({1, 2}, options);
  ASSERT_TRUE(match);
  EXPECT_EQ(match->prefix_blocks(), 1U);
  EXPECT_EQ(match->part_bytes(0, 1), 120U);
  EXPECT_EQ(match->part_bytes(0, 2), 0U);
}

TEST_F(Lookups, ALongLookupTravelsInMessagesAndAPrefixStopsWhereItBreaks) {
  shard_.max_keys = 16;
  begin();
  std::vector<unsigned> numbers;
  for (unsigned number = 0; number < 100; ++number) {
    numbers.push_back(number);
    if (number != 40) publish(number, 64, {&node1_});
  }
  Result<Match> match = lookup(numbers);
  ASSERT_TRUE(match);
  EXPECT_EQ(match->prefix_blocks(), 40U);
  EXPECT_EQ(shard_.lookups.size(), 3U) << "16 and 16 whole, then 8 of 16";
  EXPECT_EQ(match->part_bytes(39), 64U);
  EXPECT_EQ(shard_.pins.size(), 3U);

  const Result<Match> all = lookup(numbers, options_of(kPin, kAll));
  ASSERT_TRUE(all);
  EXPECT_EQ(all->prefix_blocks(), 40U);
  EXPECT_TRUE(all->has(99));
  EXPECT_EQ(all->part_bytes(99), 64U);
  EXPECT_EQ(shard_.pins.size(), 3U + 7U);

  match->release();
  match->release();
  EXPECT_FALSE(match->pinned());
  step_until([&] { return shard_.pins.size() == 7U; });
}

TEST_F(Lookups, NoLimitIsAVeryLongOne) {
  begin();
  publish(1, 100, {&node1_});
  LookupOptions options;
  options.timeout = milliseconds::max();
  EXPECT_EQ(lookup({1}, options)->prefix_blocks(), 1U);
}

TEST_F(Lookups, RefusesLookupsThatMakeNoSense) {
  begin();
  LookupOptions options;
  options.rule = LookupOptions::Rule::window;
  EXPECT_EQ(lookup({1}, options).error().code, Errc::invalid_argument);
  options = {};
  options.parts = 0;
  EXPECT_EQ(lookup({1}, options).error().code, Errc::invalid_argument);
  options.parts = 65;
  EXPECT_EQ(lookup({1}, options).error().code, Errc::invalid_argument);
  std::vector<BlockHash> no_hash(1);
  EXPECT_EQ(await(control_loop_, core_->lookup(space_, no_hash, {})).error().code,
            Errc::invalid_argument);
  std::vector<BlockHash> hashes{hash_of(1)};
  EXPECT_EQ(await(control_loop_, core_->lookup({1, 2, false}, hashes, {})).error().code,
            Errc::invalid_argument);
}

TEST_F(Lookups, ALookupInANamespaceThatWasClearedSinceIsStaleAndHoldsNothing) {
  begin();
  publish(1, 100, {&node1_});
  shard_.era = 8;
  const Result<Match> match = lookup({1});
  ASSERT_FALSE(match);
  EXPECT_EQ(match.error().code, Errc::stale);
  step_until([&] { return shard_.pins.empty(); });
}

}  // namespace
}  // namespace membrain::client_test
