#include "membrain/hash_chain.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

namespace membrain {
namespace {

std::vector<std::uint32_t> tokens(std::size_t count, std::uint32_t first = 0) {
  std::vector<std::uint32_t> made(count);
  std::iota(made.begin(), made.end(), first);
  return made;
}

class HashChainTest : public ::testing::TestWithParam<HashAlgorithm> {};

TEST_P(HashChainTest, HashesFullBlocksOnly) {
  const HashChain chain(GetParam(), 16, "seed");
  EXPECT_EQ(chain.hash(tokens(15)).size(), 0u);
  EXPECT_EQ(chain.hash(tokens(16)).size(), 1u);
  EXPECT_EQ(chain.hash(tokens(47)).size(), 2u);
}

TEST_P(HashChainTest, SharesHashesExactlyAsFarAsThePrefixIsShared) {
  const HashChain chain(GetParam(), 16, "seed");
  std::vector<std::uint32_t> other = tokens(64);
  other[33] ^= 1;  // in the third block
  const auto a = chain.hash(tokens(64));
  const auto b = chain.hash(other);
  EXPECT_EQ(a[0], b[0]);
  EXPECT_EQ(a[1], b[1]);
  EXPECT_NE(a[2], b[2]);
  EXPECT_NE(a[3], b[3]);  // everything after differs too
}

TEST_P(HashChainTest, TheSameTokensAtAnotherDepthHaveAnotherHash) {
  const HashChain chain(GetParam(), 4, "seed");
  const std::vector<std::uint32_t> same(16, 7);
  const auto hashes = chain.hash(same);
  EXPECT_EQ(std::set<std::size_t>({hashes.size()}).count(4), 1u);
  EXPECT_NE(hashes[0], hashes[1]);
  EXPECT_NE(hashes[1], hashes[2]);
}

TEST_P(HashChainTest, SeedBlockSizeAndExtraKeysSeparate) {
  const auto plain = HashChain(GetParam(), 16, "a").hash(tokens(32));
  EXPECT_NE(HashChain(GetParam(), 16, "b").hash(tokens(32))[0], plain[0]);
  EXPECT_NE(HashChain(GetParam(), 32, "a").hash(tokens(32))[0], plain[0]);
  const std::string extra[] = {"", "lora-1"};
  const auto adapted = HashChain(GetParam(), 16, "a").hash(tokens(32), extra);
  EXPECT_EQ(adapted[0], plain[0]);
  EXPECT_NE(adapted[1], plain[1]);
}

TEST_P(HashChainTest, ExtendsBlockByBlockToTheSameHashes) {
  const HashChain chain(GetParam(), 8, "seed");
  const auto all = chain.hash(tokens(24));
  BlockHash parent;
  for (std::uint32_t i = 0; i < 3; ++i) {
    parent = chain.next(parent, tokens(8, i * 8));
    EXPECT_EQ(parent, all[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Both, HashChainTest,
                         ::testing::Values(HashAlgorithm::sha256, HashAlgorithm::xxh3_128));

TEST(HashChain, SizesAndFingerprintsNameTheAlgorithm) {
  EXPECT_EQ(HashChain(HashAlgorithm::sha256, 16, "").hash(tokens(16))[0].size, 32);
  EXPECT_EQ(HashChain(HashAlgorithm::xxh3_128, 16, "").hash(tokens(16))[0].size, 16);
  EXPECT_NE(HashChain(HashAlgorithm::sha256, 16, "").fingerprint(),
            HashChain(HashAlgorithm::sha256, 16, "x").fingerprint());
}

}  // namespace
}  // namespace membrain
