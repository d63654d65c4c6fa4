#include "tools/history_book.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>

namespace membrain {
namespace {

constexpr std::array<std::uint64_t, 3> kBlocks{11, 12, 13};

HistoryCall by(std::uint32_t client, HistoryTime call, HistoryTime ret, std::uint32_t era = 1) {
  return {call, ret, client, 0, era};
}

/// Client 1 has stored three blocks and client 2 pins the first two of them.
HistoryBook pinned_book() {
  HistoryBook book;
  for (const std::uint64_t block : kBlocks) {
    book.stored(by(1, 0, 1), block, HistoryBook::Stored::stored);
  }
  book.looked_up(by(2, 2, 3), kBlocks, {true, true, true}, 2, 7);
  return book;
}

TEST(HistoryBook, JudgesEachBlockOfALookupByItself) {
  HistoryBook book;
  book.stored(by(1, 0, 1), 11, HistoryBook::Stored::stored);
  book.looked_up(by(2, 2, 3), kBlocks, {true, true, false}, 0, 0);
  const Judgement judgement = book.judge_all();
  EXPECT_EQ(judgement.blocks, 3u);
  EXPECT_EQ(judgement.events, 4u);
  EXPECT_EQ(judgement.anomalies, 1u);
  ASSERT_EQ(judgement.told.size(), 1u);
  EXPECT_NE(judgement.told.front().find("block 12"), std::string::npos);
}

TEST(HistoryBook, APinHoldsUntilItsMatchIsReleased) {
  HistoryBook held = pinned_book();
  held.looked_up(by(3, 5, 6), kBlocks, {false, false, false}, 0, 0);
  EXPECT_EQ(held.judge_all().anomalies, 2u) << "the third block was not pinned";
  HistoryBook released = pinned_book();
  released.released(2, 7, 4);
  released.looked_up(by(3, 5, 6), kBlocks, {false, false, false}, 0, 0);
  EXPECT_EQ(released.judge_all().anomalies, 0u);
  HistoryBook another = pinned_book();
  another.released(2, 8, 4);
  another.released(3, 7, 4);
  another.looked_up(by(3, 5, 6), kBlocks, {false, true, true}, 0, 0);
  EXPECT_EQ(another.judge_all().anomalies, 1u) << "another match was released";
}

TEST(HistoryBook, CountsTheReadsThatNothingExcuses) {
  HistoryBook book = pinned_book();  // three reads, from 2 to 3
  book.looked_up(by(3, 10, 12), kBlocks, {true, true, false}, 0, 0);
  book.lost(by(2, 20, 21), 7, 11);  // pinned since 2
  EXPECT_EQ(book.judge_all().reads, 7u);
  EXPECT_EQ(book.judge_all().undisturbed, 7u);
  book.disturbed({12, 14, false});
  EXPECT_EQ(book.judge_all().undisturbed, 3u) << "the second lookup, and what was pinned before it";
  book.disturbed(0, 13, {0, kNever, true});
  EXPECT_EQ(book.judge_all().undisturbed, 2u) << "of that block nothing";
  book.close_below(100);
  EXPECT_EQ(book.judge_all().reads, 7u);
  EXPECT_EQ(book.judge_all().undisturbed, 2u);
}

TEST(HistoryBook, PinsEndWithTheirClient) {
  HistoryBook book = pinned_book();
  book.released_all(2, 4);
  book.looked_up(by(3, 5, 6), kBlocks, {false, false, false}, 0, 0);
  EXPECT_EQ(book.judge_all().anomalies, 0u);
}

TEST(HistoryBook, AFetchThatLosesAPinnedBlockIsAnAnomalyWhateverIsReleasedLater) {
  HistoryBook book = pinned_book();
  book.lost(by(2, 5, 6), 7, 11);
  book.released(2, 7, 10);
  EXPECT_EQ(book.judge_all().anomalies, 1u);
  HistoryBook spoiled = pinned_book();
  spoiled.lost(by(2, 5, 6), 7, 11);
  spoiled.disturbed(0, 11, {4, kNever, true});
  EXPECT_EQ(spoiled.judge_all().anomalies, 0u);
  HistoryBook other = pinned_book();
  other.lost(by(2, 5, 6), 7, 11);
  other.disturbed(0, 12, {4, kNever, true});
  EXPECT_EQ(other.judge_all().anomalies, 1u) << "another block was spoiled";
}

TEST(HistoryBook, AClearEndsTheErasOfAllBlocksOfItsNamespace) {
  HistoryBook book = pinned_book();
  book.cleared(by(1, 4, 5), 2);
  book.looked_up(by(3, 6, 7, 2), kBlocks, {true, false, false}, 0, 0);
  book.opened(by(4, 8, 9, 1));
  const Judgement judgement = book.judge_all();
  EXPECT_EQ(judgement.anomalies, 2u) << "a block was found, and the namespace in its former era";
}

TEST(HistoryBook, AFailedStoreAndAFailedClearMayHaveComeAbout) {
  HistoryBook book;
  book.stored(by(1, 0, 1), 11, HistoryBook::Stored::unknown);
  book.looked_up(by(2, 2, 3), kBlocks, {true, false, false}, 0, 0);
  book.cleared(by(1, 4, 5), std::nullopt);
  book.looked_up(by(2, 6, 7, 2), kBlocks, {false, false, false}, 0, 0);
  EXPECT_EQ(book.judge_all().anomalies, 0u);
}

TEST(HistoryBook, WithEnoughMemoryWhatWasStoredIsFound) {
  HistoryBook book = pinned_book();
  book.enough_memory();
  book.looked_up(by(3, 5, 6), kBlocks, {true, true, false}, 0, 0);
  EXPECT_EQ(book.judge_all().anomalies, 1u);
  book.disturbed({4, 5, false});
  EXPECT_EQ(book.judge_all().anomalies, 0u);
}

TEST(HistoryBook, WhatIsClosedIsJudgedAndForgottenAndNothingIsAddedToIt) {
  HistoryBook book = pinned_book();
  book.looked_up(by(3, 5, 6), kBlocks, {false, false, false}, 0, 0);
  const Judgement before = book.judge_all();
  EXPECT_EQ(before.anomalies, 2u);
  book.close_below(13);
  EXPECT_EQ(book.open_blocks(), 1u);
  book.stored(by(1, 7, 8), 11, HistoryBook::Stored::duplicate);
  book.lost(by(2, 7, 8), 7, 12);
  book.disturbed(0, 12, {0, kNever, true});
  book.looked_up(by(3, 7, 8), std::array<std::uint64_t, 2>{11, 12}, {false, false}, 0, 0);
  book.released(2, 7, 9);
  EXPECT_EQ(book.open_blocks(), 1u) << "none that is closed came back";
  const Judgement after = book.judge_all();
  EXPECT_EQ(after.anomalies, before.anomalies);
  EXPECT_EQ(after.blocks, before.blocks);
  EXPECT_EQ(after.events, before.events);
  EXPECT_EQ(after.told, before.told);
}

TEST(HistoryBook, APinThatIsHeldWhileItsBlockIsClosedWasHeldToTheEnd) {
  HistoryBook book = pinned_book();
  book.looked_up(by(3, 5, 6), kBlocks, {false, true, true}, 0, 0);
  book.close_below(100);
  book.released(2, 7, 10);
  EXPECT_EQ(book.judge_all().anomalies, 1u);
}

TEST(HistoryBook, OnlyWhatTouchesTheTimeOfABlockIsJudgedWithIt) {
  HistoryBook book;
  book.stored(by(1, 0, 1, 1), 11, HistoryBook::Stored::stored);
  for (std::uint32_t era = 1; era <= 5; ++era)
    book.cleared(by(1, 10 * era, 10 * era + 1, era), era + 1);
  book.stored(by(1, 32, 33, 4), 12, HistoryBook::Stored::stored);
  const Judgement judgement = book.judge_all();
  EXPECT_EQ(judgement.anomalies, 0u);
  EXPECT_EQ(judgement.events, 5u + 1u + 2u) << "with block 12 the clear that began its era";
  book.looked_up(by(2, 42, 43, 4), std::array<std::uint64_t, 1>{12}, {true}, 0, 0);
  EXPECT_EQ(book.judge_all().anomalies, 1u) << "its era was over";
}

}  // namespace
}  // namespace membrain
