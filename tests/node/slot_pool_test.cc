#include "cache/node/slot_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "cache/node/size_classes.h"

namespace membrain {
namespace {

constexpr std::uint32_t kKiB = 1024;
constexpr std::uint32_t kMiB = 1024 * kKiB;

TEST(SizeClasses, AreWholePagesThatGrowByAQuarterAtMostFromSixteenKiBOn) {
  const auto classes = size_classes();
  EXPECT_EQ(classes.front(), kPageBytes);
  EXPECT_EQ(classes.back(), kLargestSlotBytes);
  EXPECT_LE(classes.size(), wire::kMaxClasses);
  for (std::size_t i = 0; i < classes.size(); ++i) {
    EXPECT_EQ(classes[i] % kPageBytes, 0u);
    if (i == 0) continue;
    EXPECT_GT(classes[i], classes[i - 1]);
    const bool small = classes[i - 1] < 16 * kKiB;
    EXPECT_TRUE(small || classes[i] <= classes[i - 1] / 4 * 5) << classes[i];
  }
}

TEST(SizeClasses, HoldEveryLengthUpToTheLargestAndNoOther) {
  EXPECT_FALSE(size_class_of(0));
  EXPECT_FALSE(size_class_of(kLargestSlotBytes + 1));
  EXPECT_EQ(size_classes()[*size_class_of(1)], kPageBytes);
  EXPECT_EQ(size_classes()[*size_class_of(16 * kKiB)], 16 * kKiB);
  EXPECT_EQ(size_classes()[*size_class_of(16 * kKiB + 1)], 20 * kKiB);
  EXPECT_EQ(size_classes()[*size_class_of(kLargestSlotBytes)], kLargestSlotBytes);
}

class SlotPoolTest : public ::testing::Test {
 protected:
  std::atomic<std::uint64_t> generations{0};
};

TEST_F(SlotPoolTest, NeverGivesAGenerationTwiceEvenForTheSameSlot) {
  SlotPool pool(4 * kMiB, generations);
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 100; ++i) {
    const Result<Slot> slot = pool.allocate(kPageBytes);
    ASSERT_TRUE(slot);
    EXPECT_TRUE(seen.insert(slot->generation.value).second);
    EXPECT_TRUE(pool.free(slot->id, slot->generation));
  }
}

TEST_F(SlotPoolTest, FillsTheWholeArenaAndThenIsFullAtOnce) {
  SlotPool pool(8 * kMiB, generations);
  std::set<std::uint32_t> ids;
  for (;;) {
    const Result<Slot> slot = pool.allocate(16 * kKiB);
    if (!slot) {
      EXPECT_EQ(slot.error().code, Errc::out_of_capacity);
      break;
    }
    EXPECT_TRUE(ids.insert(slot->id.value).second);
  }
  EXPECT_EQ(ids.size(), 8 * kMiB / (16 * kKiB));
  EXPECT_TRUE(pool.check_invariants());
}

TEST_F(SlotPoolTest, RefusesWhatNoClassHolds) {
  SlotPool pool(8 * kMiB, generations);
  EXPECT_EQ(pool.allocate(0).error().code, Errc::invalid_argument);
  EXPECT_EQ(pool.allocate(kLargestSlotBytes + 1).error().code, Errc::invalid_argument);
}

TEST_F(SlotPoolTest, ServesSmallArenas) {
  for (const std::uint64_t capacity : {4 * kKiB, 64 * kKiB, 1 * kMiB, 3 * kMiB}) {
    SlotPool pool(capacity, generations);
    const Result<Slot> slot = pool.allocate(kPageBytes);
    ASSERT_TRUE(slot) << capacity;
    EXPECT_TRUE(pool.free(slot->id, slot->generation));
    EXPECT_TRUE(pool.check_invariants());
  }
  SlotPool pool(1 * kMiB, generations);
  const Result<Slot> slot = pool.allocate(kMiB);
  EXPECT_TRUE(slot);
}

TEST_F(SlotPoolTest, FreesASlotOnceAndOnlyInItsGeneration) {
  SlotPool pool(4 * kMiB, generations);
  const Slot slot = *pool.allocate(100);
  EXPECT_FALSE(pool.free(slot.id, Generation{slot.generation.value + 1}));
  EXPECT_TRUE(pool.free(slot.id, slot.generation));
  EXPECT_FALSE(pool.free(slot.id, slot.generation));
  EXPECT_FALSE(pool.free(SlotId{0xffffffff}, slot.generation));
}

TEST_F(SlotPoolTest, GivesAnEmptySlabToAnotherClass) {
  SlotPool pool(4 * kMiB, generations);
  std::vector<Slot> slots;
  while (const Result<Slot> slot = pool.allocate(16 * kKiB)) slots.push_back(*slot);
  EXPECT_FALSE(pool.allocate(64 * kKiB));
  for (const Slot& slot : slots) EXPECT_TRUE(pool.free(slot.id, slot.generation));
  EXPECT_TRUE(pool.allocate(64 * kKiB));
  EXPECT_EQ(pool.used_slots(), 1u);
}

TEST_F(SlotPoolTest, CutsLargeClassesFromRunsOfUnitsThatWasteAnEighthAtMost) {
  SlotPool pool(256 * kMiB, generations);
  std::uint64_t bytes = 0;
  while (const Result<Slot> slot = pool.allocate(kMiB + kMiB / 4)) bytes += slot->slot_bytes;
  EXPECT_GE(bytes, 256ull * kMiB * 7 / 8);
}

TEST_F(SlotPoolTest, AsksAheadWhenLessThanATenthIsFree) {
  SlotPool pool(16 * kMiB, generations);
  const std::size_t total = 16 * kMiB / (16 * kKiB);
  std::vector<Slot> slots;
  while (slots.size() < total - total / 10 - 1) slots.push_back(*pool.allocate(16 * kKiB));
  EXPECT_FALSE(pool.low(16 * kKiB));
  EXPECT_TRUE(pool.needs().empty());
  for (int i = 0; i < 20; ++i) slots.push_back(*pool.allocate(16 * kKiB));
  EXPECT_TRUE(pool.low(16 * kKiB));
  const std::vector<Need> needs = pool.needs();
  ASSERT_EQ(needs.size(), 1u);
  EXPECT_EQ(needs[0].slot_bytes, 16 * kKiB);
  EXPECT_GE(needs[0].count, 20u);
  EXPECT_LE(needs[0].count, total / 4);
  EXPECT_TRUE(needs[0].candidates.empty());
}

TEST_F(SlotPoolTest, EmptiesTheLeastUsedSlabForAStarvingClassAndKeepsItForThatClass) {
  SlotPool pool(64 * kMiB, generations);
  std::vector<Slot> slots;
  while (const Result<Slot> slot = pool.allocate(16 * kKiB)) slots.push_back(*slot);
  // One slab is used less than the others.
  const std::uint32_t unit_pages = pool.unit_bytes() / kPageBytes;
  std::erase_if(slots, [&](const Slot& slot) {
    const bool chosen = slot.id.value / unit_pages == 5 && slot.id.value % 3 != 0;
    return chosen && pool.free(slot.id, slot.generation);
  });
  EXPECT_EQ(pool.allocate(256 * kKiB).error().code, Errc::out_of_capacity);
  const std::vector<Need> needs = pool.needs();
  const auto need = std::find_if(needs.begin(), needs.end(),
                                 [](const Need& n) { return n.slot_bytes == 256 * kKiB; });
  ASSERT_NE(need, needs.end());
  ASSERT_FALSE(need->candidates.empty());
  for (const wire::SlotRef& at : need->candidates) {
    EXPECT_EQ(at.slot.value / unit_pages, 5u);
    EXPECT_TRUE(pool.free(at.slot, at.generation));
  }
  EXPECT_TRUE(pool.check_invariants());
  EXPECT_FALSE(pool.allocate(16 * kKiB)) << "the emptied slab is kept for the starving class";
  EXPECT_TRUE(pool.allocate(256 * kKiB));
  EXPECT_TRUE(pool.check_invariants());
}

TEST_F(SlotPoolTest, GivesAReservedSlabBackWhenNothingComesOfIt) {
  SlotPool pool(4 * kMiB, generations);
  std::vector<Slot> slots;
  while (const Result<Slot> slot = pool.allocate(16 * kKiB)) slots.push_back(*slot);
  EXPECT_FALSE(pool.allocate(32 * kKiB));
  EXPECT_FALSE(pool.needs().empty());
  for (std::uint32_t i = 0; i < SlotPool::kReservedRounds; ++i) static_cast<void>(pool.needs());
  ASSERT_TRUE(pool.free(slots[0].id, slots[0].generation));
  EXPECT_TRUE(pool.allocate(16 * kKiB));
  EXPECT_TRUE(pool.check_invariants());
}

TEST_F(SlotPoolTest, CutsAdoptedSlotsAsTheyWere) {
  SlotPool before(64 * kMiB, generations);
  std::vector<Slot> slots;
  for (const std::uint32_t length : {16 * kKiB, 5 * kMiB, 100 * kKiB, 16 * kKiB}) {
    slots.push_back(*before.allocate(length));
  }
  SlotPool after(64 * kMiB, generations);
  for (const Slot& slot : slots) {
    const Result<Slot> adopted = after.adopt(slot);
    ASSERT_TRUE(adopted);
    EXPECT_EQ(adopted->id, slot.id);
    EXPECT_EQ(adopted->generation, slot.generation);
  }
  EXPECT_EQ(after.used_bytes(), before.used_bytes());
  EXPECT_FALSE(after.adopt(slots[0])) << "twice";
  Slot crooked = slots[1];
  crooked.id.value += 1;
  EXPECT_FALSE(after.adopt(crooked));
  Slot outside = slots[0];
  outside.slab = {1u << 30, 4};
  EXPECT_FALSE(after.adopt(outside));
  EXPECT_TRUE(after.check_invariants());
}

TEST_F(SlotPoolTest, AddsUpUnderRandomUseAndNeverHandsASlotOutTwice) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    std::mt19937 random(seed);
    SlotPool pool(16 * kMiB, generations);
    std::vector<Slot> slots;
    const std::uint32_t lengths[] = {3000, 16 * kKiB, 60 * kKiB, 700 * kKiB, 3 * kMiB};
    for (int step = 0; step < 2000; ++step) {
      if (random() % 3 != 0) {
        if (const Result<Slot> slot = pool.allocate(lengths[random() % 5])) slots.push_back(*slot);
      } else if (!slots.empty()) {
        std::swap(slots[random() % slots.size()], slots.back());
        ASSERT_TRUE(pool.free(slots.back().id, slots.back().generation));
        slots.pop_back();
      }
      if (random() % 64 == 0) static_cast<void>(pool.needs());
      if (step % 100 == 0) {
        const Result<> sound = pool.check_invariants();
        ASSERT_TRUE(sound) << sound.error().context << " seed " << seed;
      }
    }
    std::vector<std::pair<std::uint32_t, std::uint32_t>> ranges;
    for (const Slot& slot : slots) {
      ranges.emplace_back(slot.id.value, slot.id.value + slot.slot_bytes / kPageBytes);
    }
    std::sort(ranges.begin(), ranges.end());
    for (std::size_t i = 1; i < ranges.size(); ++i)
      EXPECT_LE(ranges[i - 1].second, ranges[i].first);
    std::size_t walked = 0;
    for (SlotId from{}; const auto slot = pool.next_used(from); ++walked) {
      from = SlotId{slot->id.value + 1};
    }
    EXPECT_EQ(walked, slots.size());
  }
}

}  // namespace
}  // namespace membrain
