// How the answers of several shards become one.
#include "cache/client/lookup_round.h"

#include <gtest/gtest.h>

#include <utility>

namespace membrain {
namespace {

/// A round of four blocks: 0 and 2 are the first shard's, 1 and 3 the second's.
class LookupRoundTest : public ::testing::Test {
 protected:
  LookupRoundTest() {
    state_.keys.resize(4);
    state_.there.resize(4);
    state_.answered.resize(4);
    round_.count = 4;
    for (const std::uint32_t first : {0U, 1U}) {
      Share& share = round_.shares.emplace_back();
      share.blocks = {first, first + 2};
      share.count = 2;
    }
  }

  /// The shard finds `prefix` of its blocks in a row, and all that have their bit set.
  void answer(std::size_t shard, std::uint8_t bitmap, std::uint32_t prefix) {
    wire::Found found;
    wire::FoundSection& section = found.sections.emplace_back();
    section.bitmap = {bitmap};
    section.prefix_blocks = prefix;
    round_.shares[shard].found = std::move(found);
  }

  Match match() {
    join(state_, {}, round_);
    state_.prefix_blocks = round_.prefix;
    auto state = std::make_shared<Match::State>();
    state->keys = state_.keys, state->there = state_.there, state->answered = state_.answered;
    state->prefix_blocks = state_.prefix_blocks;
    return Match(std::move(state));
  }

  Match::State state_;
  Round round_;
};

TEST_F(LookupRoundTest, ThePrefixIsWhatAllShardsHaveInARow) {
  answer(0, 0b11, 2);
  answer(1, 0b01, 1);
  const Match found = match();
  EXPECT_EQ(found.prefix_blocks(), 3u);
  EXPECT_TRUE(found.has(2));
  EXPECT_FALSE(found.has(3));
  for (std::size_t block = 0; block < 4; ++block) EXPECT_TRUE(found.answered(block));
}

TEST_F(LookupRoundTest, NobodySaysWhatAShardThatIsAwayHas) {
  answer(0, 0b11, 2);
  const Match found = match();
  EXPECT_TRUE(outcome_of(round_)) << "one shard has answered";
  EXPECT_EQ(found.prefix_blocks(), 1u);
  EXPECT_TRUE(found.has(0) && found.answered(0));
  EXPECT_TRUE(found.has(2) && found.answered(2));
  EXPECT_FALSE(found.has(1) || found.answered(1));
  EXPECT_FALSE(found.has(3) || found.answered(3));
  EXPECT_FALSE(found.answered(4)) << "there is no such block";
}

TEST_F(LookupRoundTest, WithoutAnyAnswerTheLookupFails) {
  EXPECT_EQ(outcome_of(round_).error().code, Errc::unavailable);
}

}  // namespace
}  // namespace membrain
