#include "tools/block_history.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace membrain {
namespace {

using Kind = BlockEvent::Kind;

/// A history, told in the order of the calls.
class Told {
 public:
  Told& did(Kind kind, HistoryTime call, HistoryTime ret, std::uint32_t era = 1) {
    BlockEvent event;
    event.kind = kind;
    event.call = call;
    event.ret = ret;
    event.era = era;
    event.next_era = era + 1;
    event.pinned_from = call;
    events_.push_back(event);
    return *this;
  }
  Told& pinned_until(HistoryTime until) {
    events_.back().pinned_until = until;
    return *this;
  }
  Told& pinned_from(HistoryTime from) {
    events_.back().pinned_from = from;
    return *this;
  }
  Told& until(HistoryTime until) {
    events_.back().until = until;
    return *this;
  }
  Told& then_era(std::uint32_t era) {
    events_.back().next_era = era;
    return *this;
  }
  Told& enough_memory() {
    rules_.evicts = false;
    return *this;
  }
  Told& disturbed(HistoryTime begin, HistoryTime end, bool ends_pins = false) {
    rules_.disturbances.push_back({begin, end, ends_pins});
    return *this;
  }
  [[nodiscard]] bool sound() const {
    const BlockVerdict verdict = judge(events_, rules_);
    EXPECT_NE(verdict.kind, BlockVerdict::Kind::undecided);
    last_ = verdict.what;
    return verdict.kind == BlockVerdict::Kind::sound;
  }
  [[nodiscard]] const std::string& what() const { return last_; }

 private:
  std::vector<BlockEvent> events_;
  BlockRules rules_;
  mutable std::string last_;
};

TEST(BlockHistory, NothingIsSound) {
  EXPECT_TRUE(Told().sound());
}

TEST(BlockHistory, WhatWasStoredMayBeFoundAndMayBeEvicted) {
  EXPECT_TRUE(Told()
                  .did(Kind::miss, 0, 1)
                  .did(Kind::store, 2, 3)
                  .did(Kind::hit, 4, 5)
                  .did(Kind::miss, 6, 7)
                  .sound());
}

TEST(BlockHistory, AHitOfWhatNobodyStoredIsFound) {
  const Told told = Told().did(Kind::miss, 0, 1).did(Kind::hit, 2, 3);
  EXPECT_FALSE(told.sound());
  EXPECT_NE(told.what().find("found"), std::string::npos) << told.what();
}

TEST(BlockHistory, AHitBeforeItsStoreBeganIsFound) {
  EXPECT_FALSE(Told().did(Kind::hit, 0, 1).did(Kind::store, 2, 3).sound());
}

TEST(BlockHistory, AHitWhileItsStoreIsUnderWayIsSound) {
  EXPECT_TRUE(Told().did(Kind::store, 0, 10).did(Kind::hit, 1, 2).sound());
}

TEST(BlockHistory, WhatWasSeenDuringAStoreCannotVanishWithEnoughMemory) {
  EXPECT_FALSE(Told()
                   .did(Kind::store, 0, 10)
                   .did(Kind::hit, 1, 2)
                   .did(Kind::miss, 3, 4)
                   .enough_memory()
                   .sound());
  EXPECT_TRUE(Told()
                  .did(Kind::store, 0, 10)
                  .did(Kind::hit, 1, 4)
                  .did(Kind::miss, 3, 5)
                  .enough_memory()
                  .sound());
}

TEST(BlockHistory, AnAcknowledgedStoreThatIsNotFoundWithEnoughMemoryIsFound) {
  EXPECT_FALSE(Told().did(Kind::store, 0, 1).did(Kind::miss, 2, 3).enough_memory().sound());
  EXPECT_TRUE(Told().did(Kind::store, 0, 1).did(Kind::miss, 2, 3).sound());
  EXPECT_TRUE(
      Told().did(Kind::store, 0, 1).did(Kind::miss, 4, 5).enough_memory().disturbed(2, 3).sound());
  EXPECT_FALSE(
      Told().did(Kind::store, 0, 1).did(Kind::miss, 4, 5).enough_memory().disturbed(6, 7).sound());
}

TEST(BlockHistory, AFailedStoreMayHaveComeAboutButNotBeforeItBeganNorAfterItsTime) {
  EXPECT_TRUE(Told().did(Kind::maybe_store, 0, 1).did(Kind::hit, 8, 9).sound());
  EXPECT_TRUE(Told().did(Kind::maybe_store, 0, 1).did(Kind::miss, 8, 9).enough_memory().sound());
  EXPECT_FALSE(Told().did(Kind::hit, 0, 1).did(Kind::maybe_store, 2, 3).sound());
  EXPECT_FALSE(Told()
                   .did(Kind::maybe_store, 0, 1)
                   .until(4)
                   .did(Kind::miss, 5, 6)
                   .did(Kind::hit, 7, 8)
                   .sound());
}

TEST(BlockHistory, WhatWasEvictedComesBackOnlyByAStore) {
  const auto evicted = [] {
    return Told().did(Kind::store, 0, 1).did(Kind::miss, 2, 3).did(Kind::hit, 6, 7);
  };
  EXPECT_FALSE(evicted().sound());
  EXPECT_TRUE(evicted().did(Kind::store, 4, 5).sound());
  EXPECT_TRUE(evicted().disturbed(4, 5).sound()) << "a node came back with it";
}

TEST(BlockHistory, WhatIsPinnedIsNotEvicted) {
  const auto pinned = [](HistoryTime until) {
    return Told()
        .did(Kind::store, 0, 1)
        .did(Kind::hit, 2, 3)
        .pinned_until(until)
        .did(Kind::miss, 5, 6);
  };
  EXPECT_FALSE(pinned(10).sound());
  EXPECT_FALSE(pinned(kNever).sound());
  EXPECT_TRUE(pinned(4).sound());
  EXPECT_TRUE(pinned(5).sound()) << "the pin ended while the lookup was under way";
}

TEST(BlockHistory, ALostNodeEndsPins) {
  const auto pinned = [] {
    return Told()
        .did(Kind::store, 0, 1)
        .did(Kind::hit, 2, 3)
        .pinned_until(20)
        .did(Kind::miss, 10, 11);
  };
  EXPECT_FALSE(pinned().sound());
  EXPECT_TRUE(pinned().disturbed(5, 6, true).sound());
  EXPECT_FALSE(pinned().disturbed(12, 13, true).sound());
  EXPECT_FALSE(pinned().disturbed(0, 1, true).sound()) << "before it was pinned";
}

TEST(BlockHistory, AnotherLeaderMayHideWhatIsPinnedForAWhileButFetchesGoOn) {
  EXPECT_TRUE(Told()
                  .did(Kind::store, 0, 1)
                  .did(Kind::hit, 2, 3)
                  .pinned_until(20)
                  .did(Kind::miss, 6, 7)
                  .disturbed(5, 8)
                  .sound());
  EXPECT_FALSE(Told()
                   .did(Kind::store, 0, 1)
                   .did(Kind::hit, 2, 3)
                   .pinned_until(20)
                   .did(Kind::lost, 6, 7)
                   .pinned_from(2)
                   .pinned_until(20)
                   .disturbed(5, 8)
                   .sound());
}

TEST(BlockHistory, AFetchThatLosesWhatItsLookupPinnedIsFound) {
  const auto fetched = [](HistoryTime until) {
    return Told()
        .did(Kind::store, 0, 1)
        .did(Kind::hit, 2, 3)
        .pinned_until(until)
        .did(Kind::lost, 4, 5)
        .pinned_from(2)
        .pinned_until(until);
  };
  EXPECT_FALSE(fetched(9).sound());
  EXPECT_TRUE(fetched(4).sound()) << "it was released before";
  EXPECT_TRUE(fetched(9).disturbed(3, 4, true).sound()) << "its node died";
  EXPECT_TRUE(fetched(9).did(Kind::cleared, 3, 4).sound()) << "its era is over";
  EXPECT_TRUE(fetched(9).did(Kind::maybe_cleared, 3, 4).sound());
}

TEST(BlockHistory, ABlockOfAnEraThatIsOverIsNotFound) {
  const auto cleared = [] { return Told().did(Kind::store, 0, 1).did(Kind::cleared, 2, 3); };
  EXPECT_FALSE(cleared().did(Kind::hit, 4, 5, 1).sound()) << "found in the old era";
  EXPECT_FALSE(cleared().did(Kind::hit, 4, 5, 2).sound()) << "found in the new one";
  EXPECT_FALSE(cleared().did(Kind::miss, 4, 5, 1).sound()) << "the old era answers";
  EXPECT_TRUE(cleared().did(Kind::miss, 4, 5, 2).sound());
  EXPECT_TRUE(cleared().did(Kind::stale, 4, 5, 1).sound());
  EXPECT_TRUE(cleared().did(Kind::store, 4, 5, 2).did(Kind::hit, 6, 7, 2).sound());
  EXPECT_FALSE(cleared().did(Kind::store, 4, 5, 1).sound()) << "stored in the old era";
  EXPECT_TRUE(cleared().did(Kind::duplicate, 4, 5, 1).sound()) << "a node has yet to free it";
}

TEST(BlockHistory, NoDisturbanceBringsAnEraBack) {
  EXPECT_FALSE(Told()
                   .did(Kind::store, 0, 1)
                   .did(Kind::cleared, 2, 3)
                   .did(Kind::hit, 4, 5, 2)
                   .disturbed(0, kNever, true)
                   .sound());
  EXPECT_FALSE(Told()
                   .did(Kind::cleared, 2, 3)
                   .did(Kind::opened, 4, 5, 1)
                   .disturbed(0, kNever, true)
                   .sound());
}

TEST(BlockHistory, AnEraEndsOnlyByAClear) {
  EXPECT_FALSE(Told().did(Kind::opened, 0, 1).did(Kind::stale, 2, 3).sound());
  EXPECT_FALSE(Told().did(Kind::opened, 0, 1).did(Kind::opened, 2, 3, 2).sound());
  EXPECT_TRUE(Told()
                  .did(Kind::opened, 0, 1)
                  .did(Kind::maybe_cleared, 1, 2)
                  .did(Kind::opened, 3, 4, 2)
                  .sound());
}

TEST(BlockHistory, TwoWhoClearAtOnceMayMeanOneEraOrTwo) {
  EXPECT_TRUE(Told().did(Kind::cleared, 0, 5).did(Kind::cleared, 1, 6).sound());
  EXPECT_TRUE(Told().did(Kind::cleared, 0, 5, 1).did(Kind::cleared, 6, 7, 2).sound());
  EXPECT_FALSE(Told().did(Kind::cleared, 0, 5).did(Kind::opened, 6, 7, 3).sound());
  EXPECT_FALSE(Told().did(Kind::cleared, 0, 5).then_era(4).sound());
}

TEST(BlockHistory, ADuplicateOfWhatNobodyStoredIsFound) {
  EXPECT_FALSE(Told().did(Kind::duplicate, 0, 1).sound());
  EXPECT_TRUE(Told().did(Kind::store, 0, 5).did(Kind::duplicate, 1, 2).sound());
  EXPECT_TRUE(Told().did(Kind::maybe_store, 0, 1).did(Kind::duplicate, 2, 3).sound());
}

TEST(BlockHistory, OrdersAreTriedAmongOperationsThatOverlap) {
  // The miss came before the store took effect, or after an eviction; the second hit needs the
  // second store.
  EXPECT_TRUE(Told()
                  .did(Kind::store, 0, 10)
                  .did(Kind::miss, 1, 9)
                  .did(Kind::hit, 2, 8)
                  .did(Kind::store, 11, 20)
                  .did(Kind::miss, 12, 13)
                  .did(Kind::hit, 14, 15)
                  .sound());
  EXPECT_FALSE(Told()
                   .did(Kind::store, 0, 10)
                   .did(Kind::miss, 12, 13)
                   .did(Kind::hit, 14, 15)
                   .did(Kind::store, 16, 20)
                   .sound());
}

TEST(BlockHistory, TooManyOperationsAtOnceAreNotDecided) {
  std::vector<BlockEvent> events;
  for (std::size_t i = 0; i <= kMaxPending; ++i) {
    BlockEvent event;
    event.kind = Kind::store;
    event.ret = 10;
    events.push_back(event);
  }
  EXPECT_EQ(judge(events, {}).kind, BlockVerdict::Kind::undecided);
}

/// A block as promised, and several users whose operations overlap: what it does at one moment of
/// each operation is what the operation tells.
std::vector<BlockEvent> random_history(std::uint64_t seed, BlockRules& rules) {
  std::mt19937_64 random(seed);
  const auto draw = [&random](std::uint64_t below) { return random() % below; };
  rules.evicts = draw(2) == 0;
  std::uint32_t era = 1;
  bool stored = false;
  bool present = false;
  HistoryTime pinned = 0;
  std::vector<BlockEvent> events;
  for (HistoryTime now = 10; now < 2000; now += static_cast<HistoryTime>(1 + draw(6))) {
    if (draw(60) == 0) rules.disturbances.push_back({now, now + 5, true}), pinned = 0;
    const bool disturbed = !rules.disturbances.empty() && rules.disturbances.back().end >= now;
    if (disturbed && draw(2) == 0) present = stored && !present;
    if (rules.evicts && now >= pinned && draw(4) == 0) present = false;
    BlockEvent event;
    event.call = now - static_cast<HistoryTime>(draw(8));
    event.ret = now + static_cast<HistoryTime>(draw(8));
    event.era = era;
    event.next_era = era + 1;
    const std::uint64_t what = draw(20);
    if (what < 5) {
      event.kind = draw(4) == 0 ? Kind::maybe_store : Kind::store;
      present = stored = event.kind == Kind::store || draw(2) == 0 || present;
      if (event.kind == Kind::maybe_store && !present) stored = false;
    } else if (what == 5) {
      event.kind = draw(3) == 0 ? Kind::maybe_cleared : Kind::cleared;
      if (event.kind == Kind::cleared || draw(2) == 0) {
        ++era, stored = present = false, pinned = 0;
      }
    } else {
      event.kind = present ? Kind::hit : Kind::miss;
      event.pinned_from = event.call;
      if (present && draw(2) == 0) {
        event.pinned_until = event.ret + static_cast<HistoryTime>(draw(40));
        pinned = std::max(pinned, event.pinned_until);
        if (disturbed) pinned = 0;
      }
    }
    events.push_back(event);
  }
  return events;
}

TEST(BlockHistory, HistoriesThatABlockMadeAreSound) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    BlockRules rules;
    const std::vector<BlockEvent> events = random_history(seed, rules);
    const BlockVerdict verdict = judge(events, rules);
    ASSERT_EQ(verdict.kind, BlockVerdict::Kind::sound) << "seed " << seed << ": " << verdict.what;
  }
}

TEST(BlockHistory, ASpoiledAnswerInALongHistoryIsFoundMoreOftenThanNot) {
  std::uint64_t spoiled = 0;
  std::uint64_t found = 0;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    BlockRules rules;
    std::vector<BlockEvent> events = random_history(seed, rules);
    const auto last_miss = std::find_if(events.rbegin(), events.rend(), [](const auto& event) {
      return event.kind == Kind::miss && event.era > 1;
    });
    if (last_miss == events.rend()) continue;
    last_miss->kind = Kind::hit;  // of an era that is over
    last_miss->era -= 1;
    ++spoiled;
    if (judge(events, rules).kind == BlockVerdict::Kind::anomaly) ++found;
  }
  EXPECT_GT(spoiled, 50u);
  EXPECT_GT(found * 2, spoiled);
}

}  // namespace
}  // namespace membrain
