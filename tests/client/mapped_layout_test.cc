// Blocks of a mapped arena, copied into the pieces of a layout.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "cache/client/mapped_fetch.h"
#include "cache/memory/layout_geometry.h"
#include "tests/client/mapped_fixture.h"

namespace membrain::mapped_test {
namespace {

constexpr std::uint32_t kPlanes = 5;
constexpr std::uint32_t kIds = 8;
constexpr std::byte kUntouched{0xee};

/// A layout of planes one behind the other, and what is under an id.
struct Cache {
  explicit Cache(std::size_t piece)
      : piece_bytes(piece), memory(kPlanes * kIds * piece, kUntouched), layout(planes()) {}
  RegisteredLayout planes() {
    Layout made;
    made.blocks = kIds;
    for (std::size_t plane = 0; plane < kPlanes; ++plane) {
      made.planes.push_back({memory.data() + plane * kIds * piece_bytes, piece_bytes, piece_bytes});
    }
    return RegisteredLayout(LayoutGeometry::check(made).value());
  }
  [[nodiscard]] std::vector<std::byte> block(std::uint32_t id) const {
    std::vector<std::byte> bytes;
    for (std::size_t plane = 0; plane < kPlanes; ++plane) {
      const auto piece = std::span(memory).subspan((plane * kIds + id) * piece_bytes, piece_bytes);
      bytes.insert(bytes.end(), piece.begin(), piece.end());
    }
    return bytes;
  }

  std::size_t piece_bytes;
  std::vector<std::byte> memory;
  RegisteredLayout layout;
};

class MappedLayout : public MappedTest {
 protected:
  /// Seals two blocks of the cache's size.
  void publish(const Cache& cache) {
    const std::size_t bytes = cache.layout.block_bytes();
    const auto second = static_cast<std::uint32_t>(bytes / kPageBytes + 1);
    for (const std::uint32_t slot : {0u, second}) {
      contents_.push_back(content(bytes, slot + 3));
      places_.push_back(keep(slot, contents_.back()));
      add_block(key_of(slot), {places_.back()});
    }
  }
  /// Starts a fetch, and copies; how it ended is in `report_`, what nobody could copy in `asked_`.
  void fetch(const Cache& cache, const LayoutFetch& fetch, bool verify) {
    MixedFetch::Job job;
    job.match = match_;
    job.items = std::move(*FetchList::of(cache.layout, fetch));
    job.options.timeout = std::chrono::milliseconds(100);
    job.plan = plan_mapped(*match_, job.items, set_).value();
    job.verify = verify;
    job.clock = &clock_;
    job.checked = [this](FetchList items, const TransferOptions&, MixedFetch::Reported reported) {
      asked_ = std::move(items);
      end_asked_ = std::move(reported);
    };
    job.reported = [this](Result<TransferReport> report) { report_.emplace(std::move(report)); };
    const auto mixed = std::make_shared<MixedFetch>(std::move(job));
    mixed->start();
    mixed->copy();
  }

  ManualClock clock_;
  std::vector<std::vector<std::byte>> contents_;
  std::vector<Location> places_;
  FetchList asked_;
  MixedFetch::Reported end_asked_;
  std::optional<Result<TransferReport>> report_;
};

TEST_F(MappedLayout, EveryPieceIsFilledAndNothingElse) {
  for (const std::size_t piece : {1u, 60u, 256u, 1000u, 4096u, 5001u, 70'000u}) {
    for (const bool verify : {true, false}) {
      Cache cache(piece);
      match_->keys.clear();
      match_->there.clear();
      match_->replicas.clear();
      match_->first = {0};
      contents_.clear();
      publish(cache);
      const std::vector<std::uint32_t> ids = {6, 1};
      fetch(cache, {.ids = ids}, verify);
      ASSERT_TRUE(report_ && *report_) << piece;
      EXPECT_EQ((*report_)->ok_count(), 2u) << piece;
      EXPECT_EQ((*report_)->lane_bytes.at("mapped"), 2 * kPlanes * piece);
      for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(cache.block(ids[i]), contents_[i]) << piece;
      const std::vector<std::byte> untouched(kPlanes * piece, kUntouched);
      for (const std::uint32_t id : {0u, 2u, 3u, 4u, 5u, 7u}) {
        ASSERT_EQ(cache.block(id), untouched) << piece << " " << id;
      }
    }
  }
}

TEST_F(MappedLayout, SomePlanesAreFilledAlone) {
  Cache cache(1500);
  publish(cache);
  fetch(cache, {.first_id = 4, .count = 1, .first_block = 1, .first_plane = 1, .plane_count = 2},
        true);
  ASSERT_TRUE(report_ && *report_);
  EXPECT_EQ((*report_)->bytes, 3000u);
  std::vector<std::byte> expected(kPlanes * 1500, kUntouched);
  std::copy_n(contents_[1].begin() + 1500, 3000, expected.begin() + 1500);
  EXPECT_EQ(cache.block(4), expected);
}

TEST_F(MappedLayout, ABlockWithAFlippedBitGoesTheCheckedWayToTheSamePlace) {
  for (const std::size_t piece : {300u, 20'000u}) {
    Cache cache(piece);
    match_->keys.clear();
    match_->there.clear();
    match_->replicas.clear();
    match_->first = {0};
    publish(cache);
    node_->memory(places_.back().slot, 1)[0] ^= std::byte{1};
    report_.reset();
    fetch(cache, {.first_id = 2, .count = 2}, true);
    ASSERT_FALSE(report_);
    ASSERT_EQ(asked_.size(), 1u);
    EXPECT_EQ(asked_[0].block, 1u);
    std::vector<const std::byte*> pieces;
    asked_[0].into.for_each_piece([&](const std::byte* at, std::size_t) { pieces.push_back(at); });
    ASSERT_EQ(pieces.size(), kPlanes);
    EXPECT_EQ(pieces[1], cache.memory.data() + (kIds + 3) * piece);
    TransferReport ended;
    ended.items = {{.ok = true}};
    ended.bytes = kPlanes * piece;
    end_asked_(std::move(ended));
    ASSERT_TRUE(report_ && *report_);
    EXPECT_EQ((*report_)->ok_count(), 2u);
    EXPECT_EQ((*report_)->lane_bytes.at("mapped"), kPlanes * piece);
    EXPECT_EQ((*report_)->bytes, 2 * kPlanes * piece);
  }
}

TEST_F(MappedLayout, ABlockOfAnotherSizeThanTheLayoutsIsNotCopied) {
  const Cache layout_of_less(100);
  publish(Cache(101));
  const auto list = FetchList::of(layout_of_less.layout, {.count = 1});
  ASSERT_TRUE(list);
  EXPECT_FALSE(plan_mapped(*match_, *list, set_)) << "all of a block, or some of its planes";
  const auto some = FetchList::of(layout_of_less.layout, {.count = 1, .plane_count = 2});
  EXPECT_TRUE(plan_mapped(*match_, *some, set_));
}

}  // namespace
}  // namespace membrain::mapped_test
