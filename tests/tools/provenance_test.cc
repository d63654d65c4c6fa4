#include "tools/provenance.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace membrain {
namespace {

TEST(Provenance, CountsOnlyHitsOnWhatAnotherEngineStored) {
  Provenance provenance;
  provenance.stored(0, std::vector<std::uint64_t>{1, 2});
  provenance.stored(1, std::vector<std::uint64_t>{3});
  provenance.hit(0, std::vector<std::uint64_t>{1, 2});
  EXPECT_EQ(provenance.hits_across(), 0U);
  provenance.hit(1, std::vector<std::uint64_t>{1, 2, 3});
  EXPECT_EQ(provenance.hits_across(), 2U);
}

TEST(Provenance, JudgesAHitThatIsReportedBeforeItsStore) {
  Provenance provenance;
  provenance.hit(1, std::vector<std::uint64_t>{9});
  provenance.stored(0, std::vector<std::uint64_t>{9});
  EXPECT_EQ(provenance.hits_across(), 1U);
}

TEST(Provenance, DoesNotClaimWhatSeveralStored) {
  Provenance provenance;
  provenance.stored(0, std::vector<std::uint64_t>{9});
  provenance.stored(1, std::vector<std::uint64_t>{9});
  provenance.hit(1, std::vector<std::uint64_t>{9});
  provenance.hit(0, std::vector<std::uint64_t>{8});
  EXPECT_EQ(provenance.hits_across(), 0U);
}

}  // namespace
}  // namespace membrain
