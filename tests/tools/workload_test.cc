#include "tools/workload.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <unordered_set>

namespace membrain {
namespace {

TEST(Workload, IsTheSameForTheSameSeedAndAnotherForAnother) {
  EXPECT_EQ(make_workload({}), make_workload({}));
  EXPECT_NE(make_workload({.seed = 1}), make_workload({.seed = 2}));
}

TEST(Workload, HasAsManyBlocksAsItsTokensNeed) {
  for (const TraceRequest& request : make_workload({.requests = 500})) {
    EXPECT_EQ(request.hash_ids.size(), (request.input_length + 511) / 512);
    EXPECT_GT(request.output_length, 0U);
  }
}

TEST(Workload, NamesABlockByItsWholePrefix) {
  // Where a block appears again, all before it are the same as before.
  std::unordered_map<std::uint64_t, std::uint64_t> parent_of;
  for (const TraceRequest& request : make_workload({.requests = 500})) {
    std::uint64_t parent = UINT64_MAX;
    for (const std::uint64_t id : request.hash_ids) {
      const auto [known, fresh] = parent_of.emplace(id, parent);
      EXPECT_EQ(known->second, parent);
      parent = id;
    }
  }
}

TEST(Workload, ReusesALargePartOfItsBlocks) {
  std::unordered_set<std::uint64_t> seen;
  std::size_t hits = 0;
  std::size_t blocks = 0;
  for (const TraceRequest& request : make_workload({.requests = 500})) {
    for (const std::uint64_t id : request.hash_ids) {
      hits += seen.contains(id) ? 1 : 0;
      ++blocks;
    }
    seen.insert(request.hash_ids.begin(), request.hash_ids.end());
  }
  EXPECT_GT(hits, blocks / 3);
  EXPECT_LT(hits, blocks * 9 / 10);
}

}  // namespace
}  // namespace membrain
