#include "base/checksum.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace membrain {
namespace {

std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 131 + (i >> 8));
  return bytes;
}

TEST(Checksum, OfNothingIsTheKnownValueOfXxh3) {
  // XXH3-128 of the empty input with seed 0, from xxHash's own sanity test vectors.
  EXPECT_EQ(checksum({}), (Checksum{0x6001C324468D497F, 0x99AA06D3014798D8}));
}

TEST(Checksum, OverPiecesIsThatOfTheConcatenation) {
  for (const std::size_t size : {1u, 16u, 129u, 240u, 241u, 1024u, 4097u, 300000u}) {
    const std::vector<std::byte> bytes = pattern(size);
    for (const std::size_t step : {std::size_t{1}, std::size_t{7}, std::size_t{1000}, size}) {
      ChecksumStream stream;
      for (std::size_t at = 0; at < size; at += step) {
        stream.add(std::span(bytes).subspan(at, std::min(step, size - at)));
      }
      ASSERT_EQ(stream.finish(), checksum(bytes)) << size << " in steps of " << step;
    }
  }
}

TEST(Checksum, ChangesWithEveryBit) {
  std::vector<std::byte> bytes = pattern(4096);
  const Checksum before = checksum(bytes);
  for (std::size_t bit = 0; bit < bytes.size() * 8; bit += 61) {
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    ASSERT_NE(checksum(bytes), before) << bit;
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
  }
}

}  // namespace
}  // namespace membrain
