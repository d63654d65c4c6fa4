#include "server/ref_index.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <unordered_map>
#include <vector>

namespace membrain {
namespace {

/// Records whose hash is what a test says.
struct Hashes {
  std::vector<std::uint64_t>* hashes;
  std::uint64_t operator()(Ref ref) const { return (*hashes)[ref]; }
};

class RefIndexTest : public testing::Test {
 protected:
  Ref find(const RefIndex<Hashes>& index, std::uint64_t hash, Ref wanted) {
    return index.find(hash, [&](Ref ref) { return ref == wanted; });
  }
  std::vector<std::uint64_t> hashes_;
};

TEST_F(RefIndexTest, FindsWhatWasInsertedAndNothingElse) {
  RefIndex<Hashes> index(Hashes{&hashes_}, 4);
  hashes_ = {0x1234567890abcdefull, 0xfedcba0987654321ull};
  index.insert(hashes_[0], 0);
  EXPECT_EQ(find(index, hashes_[0], 0), 0u);
  EXPECT_EQ(find(index, hashes_[1], 1), kNoRef);
  EXPECT_EQ(index.count(), 1u);
}

TEST_F(RefIndexTest, DeletingFromARunThatWrapsAroundLosesNothing) {
  RefIndex<Hashes> index(Hashes{&hashes_}, 4);
  for (Ref ref = 0; ref < 20; ++ref) {
    hashes_.push_back(0xffffffffffffff00ull + ref);  // all at home in the last place
    index.insert(hashes_[ref], ref);
  }
  for (Ref gone = 0; gone < 20; gone += 2) index.erase(hashes_[gone], gone);
  for (Ref ref = 0; ref < 20; ++ref) {
    EXPECT_EQ(find(index, hashes_[ref], ref), ref % 2 == 0 ? kNoRef : ref);
  }
}

TEST_F(RefIndexTest, EqualHashesAreToldApartByTheCaller) {
  RefIndex<Hashes> index(Hashes{&hashes_}, 4);
  hashes_ = {77, 77, 77};
  for (Ref ref = 0; ref < 3; ++ref) index.insert(77, ref);
  for (Ref ref = 0; ref < 3; ++ref) EXPECT_EQ(find(index, 77, ref), ref);
  index.erase(77, 1);
  EXPECT_EQ(find(index, 77, 1), kNoRef);
  EXPECT_EQ(find(index, 77, 2), 2u);
}

TEST_F(RefIndexTest, GrowsALittleWithEachInsertion) {
  RefIndex<Hashes> index(Hashes{&hashes_}, 1);
  std::mt19937_64 random(5);
  bool was_growing = false;
  for (Ref ref = 0; ref < 20'000; ++ref) {
    hashes_.push_back(random());
    index.insert(hashes_.back(), ref);
    was_growing |= index.growing();
  }
  EXPECT_TRUE(was_growing);
  for (Ref ref = 0; ref < hashes_.size(); ++ref) ASSERT_EQ(find(index, hashes_[ref], ref), ref);
}

/// Counts how often it is asked for a record's hash: once for each record that is moved.
struct CountedHashes {
  std::vector<std::uint64_t>* hashes;
  std::size_t* asked;
  std::uint64_t operator()(Ref ref) const {
    ++*asked;
    return (*hashes)[ref];
  }
};

TEST_F(RefIndexTest, AnInsertionFarBeyondTheExpectedSizeMovesAFewRecordsAtMost) {
  std::size_t asked = 0;
  RefIndex<CountedHashes> index(CountedHashes{&hashes_, &asked}, 100);
  std::mt19937_64 random(6);
  std::size_t growths = 0;
  for (Ref ref = 0; ref < 200'000; ++ref) {
    hashes_.push_back(random());
    const bool was_growing = index.growing();
    asked = 0;
    index.insert(hashes_.back(), ref);
    growths += !was_growing && index.growing() ? 1 : 0;
    // Eight are moved, and the rest of a run: some hundreds at the longest in a table that is five
    // sixths full, however large it is.
    ASSERT_LE(asked, 2000U) << "of " << ref;
  }
  EXPECT_GT(growths, 20U);
}

TEST_F(RefIndexTest, AgreesWithAMapUnderInsertionsAndDeletionsWhileItGrows) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 random(seed);
    hashes_.assign(4000, 0);
    RefIndex<Hashes> index(Hashes{&hashes_}, 1);
    std::unordered_map<Ref, std::uint64_t> there;
    std::vector<Ref> free;
    Ref end = 0;
    const std::uint64_t few_homes = seed % 2 == 0 ? 0xff000000000000ffull : ~0ull;
    for (int step = 0; step < 6000; ++step) {
      if (there.empty() || (random() % 5 < 3 && there.size() < 3000)) {
        const Ref ref = free.empty() ? end++ : free.back();
        if (!free.empty()) free.pop_back();
        hashes_[ref] = random() & few_homes;
        index.insert(hashes_[ref], ref);
        there[ref] = hashes_[ref];
      } else {
        const auto victim = there.begin();
        index.erase(victim->second, victim->first);
        free.push_back(victim->first);
        there.erase(victim);
      }
      ASSERT_EQ(index.count(), there.size());
    }
    for (Ref ref = 0; ref < end; ++ref) {
      ASSERT_EQ(find(index, hashes_[ref], ref), there.contains(ref) ? ref : kNoRef) << seed;
    }
  }
}

}  // namespace
}  // namespace membrain
