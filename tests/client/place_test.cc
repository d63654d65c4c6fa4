#include "cache/memory/place.h"

#include <gtest/gtest.h>

#include <array>
#include <utility>
#include <vector>

namespace membrain {
namespace {

using Stretch = std::pair<const std::byte*, std::size_t>;

std::vector<Stretch> runs_of(const Place& place, std::uint64_t offset, std::uint64_t length) {
  std::vector<Stretch> runs;
  place.for_each_piece(offset, length, [&runs](std::byte* data, std::size_t size) {
    runs.emplace_back(data, size);
  });
  return runs;
}

std::vector<std::byte> counted(std::size_t size) {
  std::vector<std::byte> memory(size);
  for (std::size_t i = 0; i < size; ++i) memory[i] = static_cast<std::byte>(i * 7);
  return memory;
}

TEST(Place, OfNothingHasNoBytesAndNoRuns) {
  const Place nothing;
  EXPECT_EQ(nothing.size_bytes(), 0U);
  EXPECT_TRUE(runs_of(nothing, 0, 0).empty());
}

TEST(Place, YieldsItsPiecesInOrderWithNeighboursJoinedAndEmptyOnesLeftOut) {
  std::vector<std::byte> memory = counted(100);
  std::byte* at = memory.data();
  const std::vector<Piece> pieces = {{at, 10},     {at + 10, 5},  {nullptr, 0},
                                     {at + 15, 5}, {at + 50, 20}, {at + 40, 10}};
  const Place place(pieces);
  EXPECT_EQ(place.size_bytes(), 50U);
  const std::vector<Stretch> expected = {{at, 20}, {at + 50, 20}, {at + 40, 10}};
  EXPECT_EQ(runs_of(place, 0, 50), expected);
}

TEST(Place, YieldsAnyRangeOfItsBytes) {
  std::vector<std::byte> memory = counted(100);
  std::byte* at = memory.data();
  const std::vector<Piece> pieces = {{at, 10}, {at + 20, 10}, {at + 60, 10}};
  const Place place(pieces);
  EXPECT_EQ(runs_of(place, 0, 4), (std::vector<Stretch>{{at, 4}}));
  EXPECT_EQ(runs_of(place, 8, 4), (std::vector<Stretch>{{at + 8, 2}, {at + 20, 2}}));
  EXPECT_EQ(runs_of(place, 10, 20), (std::vector<Stretch>{{at + 20, 10}, {at + 60, 10}}));
  EXPECT_EQ(runs_of(place, 29, 1), (std::vector<Stretch>{{at + 69, 1}}));
  EXPECT_TRUE(runs_of(place, 30, 0).empty());
}

TEST(Place, OfASourceIsReadLikeADestination) {
  const std::vector<std::byte> memory = counted(64);
  const std::vector<ConstPiece> pieces = {{memory.data(), 16}, {memory.data() + 32, 16}};
  const Place place(pieces);
  EXPECT_EQ(place.size_bytes(), 32U);
  EXPECT_EQ(runs_of(place, 0, 32),
            (std::vector<Stretch>{{memory.data(), 16}, {memory.data() + 32, 16}}));
}

TEST(Place, HasTheChecksumOfItsConcatenation) {
  std::vector<std::byte> memory = counted(3000);
  const Checksum expected = checksum(memory);
  const std::array<Piece, 1> one = {{{memory.data(), memory.size()}}};
  EXPECT_EQ(checksum_of(Place(one)), expected);

  std::vector<std::byte> copy = memory;
  const std::array<Piece, 3> scattered = {
      {{memory.data(), 1000}, {copy.data() + 1000, 1000}, {memory.data() + 2000, 1000}}};
  EXPECT_EQ(checksum_of(Place(scattered)), expected);
}

}  // namespace
}  // namespace membrain
