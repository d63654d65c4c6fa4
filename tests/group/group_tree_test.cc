// From every root, every member gets everything, from one other member.
#include "cache/group/group_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <functional>

namespace membrain {
namespace {

using wire::TreeShape;

class GroupTree : public testing::TestWithParam<TreeShape> {};

TEST_P(GroupTree, ReachesEveryMemberOnceFromEveryRoot) {
  for (std::uint32_t size = 1; size <= 33; ++size) {
    for (std::uint32_t root = 0; root < size; ++root) {
      std::vector<int> parents(size);
      for (std::uint32_t rank = 0; rank < size; ++rank) {
        for (const std::uint32_t child : children_of(rank, root, size, GetParam())) {
          ASSERT_LT(child, size);
          ++parents[child];
        }
      }
      EXPECT_EQ(parents[root], 0);
      EXPECT_EQ(std::ranges::count(parents, 1), size - 1) << size << " from " << root;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, GroupTree, testing::Values(TreeShape::chain, TreeShape::binomial),
                         [](const auto& shape) {
                           return shape.param == TreeShape::chain ? "chain" : "binomial";
                         });

TEST(GroupTree, OfDoublingsIsAsDeepAsTheirNumber) {
  const std::function<std::uint32_t(std::uint32_t, std::uint32_t)> depth =
      [&](std::uint32_t rank, std::uint32_t size) -> std::uint32_t {
    std::uint32_t deepest = 0;
    for (const std::uint32_t child : children_of(rank, 0, size, TreeShape::binomial)) {
      deepest = std::max(deepest, 1 + depth(child, size));
    }
    return deepest;
  };
  for (const std::uint32_t size : {1U, 2U, 3U, 4U, 8U, 13U, 16U, 64U}) {
    EXPECT_LE(depth(0, size), static_cast<std::uint32_t>(std::bit_width(size - 1))) << size;
  }
}

TEST(GroupTree, IsAChainWhenThereIsMuchToSend) {
  EXPECT_EQ(shape_for(8, 2), TreeShape::binomial);
  EXPECT_EQ(shape_for(8, 100), TreeShape::chain);
}

}  // namespace
}  // namespace membrain
