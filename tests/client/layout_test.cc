// Layouts: geometry is checked once, and blocks move by their ids.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "cache/client/fetch_list.h"
#include "cache/client/store_list.h"
#include "cache/memory/layout_geometry.h"
#include "cache/memory/segments.h"
#include "membrain/layout.h"
#include "tests/client/fake_cluster.h"

namespace membrain::client_test {
namespace {

constexpr std::uint32_t kBlocks = 16;

/// What is wrong with a layout; empty if nothing is.
std::string fault_of(const Layout& layout) {
  const auto checked = LayoutGeometry::check(layout);
  return checked ? "" : std::string(checked.error().context);
}

class LayoutGeometryTest : public testing::Test {
 protected:
  std::byte* at(std::size_t offset) { return memory_.data() + offset; }
  std::vector<std::byte> memory_ = std::vector<std::byte>(1 << 20);
};

TEST_F(LayoutGeometryTest, RefusesWhatCannotBe) {
  EXPECT_EQ(fault_of({{{at(0), 100, 100}}, 0}), "a layout has at least one block");
  EXPECT_EQ(fault_of({{}, 1}), "a layout has at least one plane");
  EXPECT_EQ(fault_of({{{nullptr, 100, 100}}, 1}), "a plane has no base");
  EXPECT_EQ(fault_of({{{at(0), 100, 0}}, 1}), "a plane has empty pieces");
  EXPECT_EQ(fault_of({{{at(0), 99, 100}}, 2}), "a plane's stride is less than its pieces");
  EXPECT_EQ(fault_of({{{at(0), 0, 100}}, 1}), "");
  EXPECT_EQ(fault_of({{{at(0), SIZE_MAX / 2, 100}}, 3}), "a plane ends beyond all memory");
  EXPECT_EQ(fault_of({{{at(0), 1ull << 40, 1ull << 33}}, 1}), "a plane's pieces are too large");
  const LayoutPlane large{at(0), 1ull << 33, 1ull << 31};
  LayoutPlane behind = large;
  behind.base = at(0) + (1ull << 31);
  LayoutPlane third = large;
  third.base = at(0) + (1ull << 32);
  EXPECT_EQ(fault_of({{large, behind, third}, 1}), "a layout's blocks are too large");
  EXPECT_EQ(fault_of({std::vector<LayoutPlane>(1025, large), 1}),
            "a layout has at most 1024 planes");
}

TEST_F(LayoutGeometryTest, FindsPlanesThatOverlap) {
  const std::string overlap = "two planes of a layout overlap";
  EXPECT_EQ(fault_of({{{at(0), 100, 100}, {at(1599), 100, 100}}, kBlocks}), overlap);
  EXPECT_EQ(fault_of({{{at(0), 100, 100}, {at(1600), 100, 100}}, kBlocks}), "");
  EXPECT_EQ(fault_of({{{at(50), 100, 50}, {at(0), 100, 50}}, kBlocks}), "") << "interleaved";
  EXPECT_EQ(fault_of({{{at(49), 100, 50}, {at(0), 100, 50}}, kBlocks}), overlap);
  EXPECT_EQ(fault_of({{{at(0), 100, 50}, {at(51), 100, 50}}, kBlocks}), overlap);
  EXPECT_EQ(fault_of({{{at(0), 100, 10}, {at(50), 101, 10}}, kBlocks}), overlap);
  EXPECT_EQ(fault_of({{{at(0), 100, 50}, {at(0), 100, 50}}, kBlocks}), overlap);
}

/// Pieces of a range of a block, as (offset into the memory, size).
std::vector<std::pair<std::ptrdiff_t, std::size_t>> pieces(const LayoutGeometry& layout,
                                                           const std::byte* memory,
                                                           std::uint32_t id, std::uint64_t offset,
                                                           std::uint64_t length) {
  std::vector<std::pair<std::ptrdiff_t, std::size_t>> found;
  Place(layout, id, 0, layout.block_bytes())
      .for_each_piece(offset, length, [&](const std::byte* data, std::size_t size) {
        found.emplace_back(data - memory, size);
      });
  return found;
}

TEST_F(LayoutGeometryTest, AContiguousBlockIsOnePiece) {
  const auto layout =
      LayoutGeometry::check({{{at(0), 300, 100}, {at(100), 300, 100}, {at(200), 300, 50}}, 5});
  ASSERT_TRUE(layout);
  EXPECT_EQ((*layout)->run_count(), 1U);
  EXPECT_EQ((*layout)->plane_count(), 3U);
  EXPECT_EQ((*layout)->offset_of(2), 200U);
  using Pieces = std::vector<std::pair<std::ptrdiff_t, std::size_t>>;
  EXPECT_EQ(pieces(**layout, at(0), 2, 0, 250), (Pieces{{600, 250}}));
  EXPECT_EQ(pieces(**layout, at(0), 4, 30, 100), (Pieces{{1230, 100}}));
}

TEST_F(LayoutGeometryTest, ARangeBeginsAndEndsAnywhere) {
  const auto layout =
      LayoutGeometry::check({{{at(0), 100, 100}, {at(5000), 40, 30}, {at(9000), 60, 60}}, 5});
  ASSERT_TRUE(layout);
  using Pieces = std::vector<std::pair<std::ptrdiff_t, std::size_t>>;
  EXPECT_EQ(pieces(**layout, at(0), 1, 0, 190), (Pieces{{100, 100}, {5040, 30}, {9060, 60}}));
  EXPECT_EQ(pieces(**layout, at(0), 3, 99, 2), (Pieces{{399, 1}, {5120, 1}}));
  EXPECT_EQ(pieces(**layout, at(0), 3, 100, 30), (Pieces{{5120, 30}}));
  EXPECT_EQ(pieces(**layout, at(0), 0, 129, 61), (Pieces{{5029, 1}, {9000, 60}}));
}

TEST_F(LayoutGeometryTest, TheNextBlockFollowsWhereStrideAndPieceAreOne) {
  const auto layout = LayoutGeometry::check({{{at(0), 100, 100}}, 5});
  ASSERT_TRUE(layout);
  SegmentList segments;
  for (const std::uint32_t id : {1U, 2U, 4U}) segments.add(Place(**layout, id, 0, 100));
  ASSERT_EQ(segments.to_receive().size(), 2U);
  EXPECT_EQ(segments.to_receive()[0].size, 200U);
}

class LayoutCalls : public ClientTest {
 protected:
  static constexpr std::size_t kPlanes = 6;
  static constexpr std::size_t kPiece = 512;
  static constexpr std::size_t kBlockBytes = kPlanes * kPiece;

  LayoutCalls() : layout_(register_planes()) {}
  RegisteredLayout register_planes() {
    Layout layout;
    layout.blocks = kBlocks;
    for (std::size_t plane = 0; plane < kPlanes; ++plane) {
      layout.planes.push_back({cache_.data() + plane * kBlocks * kPiece, kPiece, kPiece});
    }
    return RegisteredLayout(LayoutGeometry::check(layout).value());
  }
  /// The block as it lies in the engine's cache.
  std::vector<std::byte> block(std::uint32_t id) const {
    std::vector<std::byte> bytes;
    for (std::size_t plane = 0; plane < kPlanes; ++plane) {
      const auto* piece = cache_.data() + (plane * kBlocks + id) * kPiece;
      bytes.insert(bytes.end(), piece, piece + kPiece);
    }
    return bytes;
  }
  Result<TransferReport> fetch_into(const Match& match, const LayoutFetch& fetch) {
    Result<FetchList> list = FetchList::of(layout_, fetch);
    if (!list) return fail(list.error());
    return await(data_loop_, core_->fetch(match.state(), std::move(*list), {}, nullptr));
  }

  std::vector<std::byte> cache_ = std::vector<std::byte>(kBlocks * kBlockBytes);
  RegisteredLayout layout_;
};

TEST_F(LayoutCalls, BlocksLandUnderTheirIds) {
  begin();
  std::vector<std::vector<std::byte>> bytes;
  for (unsigned number = 1; number <= 4; ++number) {
    bytes.push_back(publish(number, kBlockBytes, {number % 2 != 0 ? &node1_ : &node2_}));
  }
  const Match match = lookup({1, 2, 3, 4}).value();
  const std::vector<std::uint32_t> ids = {9, 3, 15, 4};
  LayoutFetch fetch;
  fetch.ids = ids;
  const Result<TransferReport> report = fetch_into(match, fetch);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 4U);
  for (std::size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(block(ids[i]), bytes[i]);
  const auto elsewhere = block(0);
  EXPECT_TRUE(std::all_of(elsewhere.begin(), elsewhere.end(),
                          [](std::byte byte) { return byte == std::byte{0}; }));
}

TEST_F(LayoutCalls, ListedBlocksGoToARangeOfIds) {
  begin();
  std::vector<std::vector<std::byte>> bytes;
  for (unsigned number = 1; number <= 4; ++number) {
    bytes.push_back(publish(number, kBlockBytes, {&node1_}));
  }
  const Match match = lookup({1, 2, 3, 4}).value();
  const std::vector<std::uint32_t> blocks = {3, 1};
  LayoutFetch fetch;
  fetch.first_id = 7;
  fetch.count = 2;
  fetch.blocks = blocks;
  ASSERT_TRUE(fetch_into(match, fetch));
  EXPECT_EQ(block(7), bytes[3]);
  EXPECT_EQ(block(8), bytes[1]);
}

TEST_F(LayoutCalls, SomePlanesComeAlone) {
  begin();
  const std::vector<std::byte> bytes = publish(1, kBlockBytes, {&node1_});
  const Match match = lookup({1}).value();
  LayoutFetch fetch;
  fetch.first_id = 5;
  fetch.count = 1;
  fetch.first_plane = 2;
  fetch.plane_count = 3;
  const Result<TransferReport> report = fetch_into(match, fetch);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->bytes, 3 * kPiece);
  std::vector<std::byte> expected(kBlockBytes);
  std::copy(bytes.begin() + 2 * kPiece, bytes.begin() + 5 * kPiece, expected.begin() + 2 * kPiece);
  EXPECT_EQ(block(5), expected);
}

TEST_F(LayoutCalls, ABadCallIsRefusedBeforeAnythingMoves) {
  const auto refused = [&](LayoutFetch fetch) {
    const auto list = FetchList::of(layout_, fetch);
    return list ? std::string() : std::string(list.error().context);
  };
  const std::vector<std::uint32_t> outside = {0, kBlocks};
  const std::vector<std::uint32_t> twice = {1, 2, 1};
  EXPECT_EQ(refused({.ids = outside}), "a block id is not in the layout");
  EXPECT_EQ(refused({.ids = twice}), "a block id comes twice");
  EXPECT_EQ(refused({.first_id = 10, .count = 7}), "a block id is not in the layout");
  EXPECT_EQ(refused({.first_id = 0xffffffff, .count = 2}), "a block id is not in the layout");
  EXPECT_EQ(refused({.ids = twice, .blocks = outside}), "as many block ids as blocks");
  EXPECT_EQ(refused({.count = 1, .first_plane = 6}), "planes that the layout does not have");
  EXPECT_EQ(refused({.count = 1, .first_plane = 4, .plane_count = 3}),
            "planes that the layout does not have");
  EXPECT_EQ(refused({.count = 2, .first_block = 0xffffffff}), "no such block");
  const std::vector<BlockHash> hashes = {hash_of(1), hash_of(2)};
  EXPECT_FALSE(StoreList::of(layout_, {.hashes = hashes, .ids = twice}));
  EXPECT_FALSE(StoreList::of(layout_, {.hashes = hashes, .first_id = kBlocks - 1}));
}

TEST_F(LayoutCalls, ABlockOfAnotherSizeIsRefused) {
  begin();
  publish(1, kBlockBytes - 1, {&node1_});
  const Match match = lookup({1}).value();
  LayoutFetch fetch;
  fetch.count = 1;
  EXPECT_EQ(fetch_into(match, fetch).error().code, Errc::invalid_argument);
}

TEST_F(LayoutCalls, StoresARunOfAPromptFromItsIds) {
  shard_.nodes = {&node1_};
  begin();
  const std::vector<std::byte> filled = content(cache_.size(), 5);
  std::copy(filled.begin(), filled.end(), cache_.begin());
  const std::vector<BlockHash> hashes = {hash_of(1), hash_of(2), hash_of(3)};
  const std::vector<std::uint32_t> ids = {11, 2, 3};
  LayoutStore blocks;
  blocks.hashes = hashes;
  blocks.ids = ids;
  blocks.parent = hash_of(9);
  blocks.first_depth = 40;
  Result<StoreList> list = StoreList::of(layout_, blocks);
  ASSERT_TRUE(list);
  const Result<TransferReport> report =
      await(data_loop_, core_->store(space_, std::move(*list), {}, nullptr));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 3U);
  for (unsigned i = 0; i < 3; ++i) EXPECT_EQ(node1_.stored.at(key_of(i + 1)), block(ids[i]));
  ASSERT_EQ(node1_.stores.size(), 1U);
  const auto& sent = node1_.stores[0].items;
  EXPECT_EQ(sent[0].meta.parent, key_of(9));
  EXPECT_EQ(sent[2].meta.parent, key_of(2));
  EXPECT_EQ(sent[2].meta.depth, 42U);
}

}  // namespace
}  // namespace membrain::client_test
