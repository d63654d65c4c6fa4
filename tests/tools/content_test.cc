#include "tools/content.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <span>
#include <vector>

namespace membrain {
namespace {

std::vector<std::byte> content_of(std::uint64_t hash_id, std::size_t size) {
  std::vector<std::byte> block(size);
  fill_content(hash_id, block);
  return block;
}

TEST(Content, OfABlockIsRightInEverySize) {
  for (const std::size_t size : {0U, 1U, 7U, 8U, 9U, 4095U, 65536U}) {
    EXPECT_EQ(count_wrong_bytes(7, content_of(7, size)), 0U) << size;
  }
}

TEST(Content, CountsEveryChangedByteOnce) {
  std::vector<std::byte> block = content_of(3, 1003);
  for (const std::size_t at : {0U, 1U, 512U, 1000U, 1002U}) block[at] ^= std::byte{0x80};
  EXPECT_EQ(count_wrong_bytes(3, block), 5U);
}

TEST(Content, OfAnotherBlockIsWrongNearlyEverywhere) {
  for (std::uint64_t other = 0; other < 64; ++other) {
    if (other == 5) continue;
    EXPECT_GT(count_wrong_bytes(5, content_of(other, 4096)), 3800U) << other;
  }
}

TEST(Content, ShiftedByAnyAmountIsWrongNearlyEverywhere) {
  const std::vector<std::byte> block = content_of(11, 8192);
  for (const std::size_t by : {1U, 8U, 64U, 4096U}) {
    const auto shifted = std::span(block).subspan(by, 4096);
    EXPECT_GT(count_wrong_bytes(11, shifted), 3800U) << by;
  }
}

TEST(Content, IsNeitherZeroNorPoison) {
  EXPECT_GT(count_wrong_bytes(0, std::vector<std::byte>(4096)), 3800U);
  EXPECT_GT(count_wrong_bytes(0, std::vector<std::byte>(4096, std::byte{0xa5})), 3800U);
}

}  // namespace
}  // namespace membrain
