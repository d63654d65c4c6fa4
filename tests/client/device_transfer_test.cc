// Blocks to and from a GPU's memory: whole and verified, or not at all.
#include "cache/client/device_transfer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>

#include "base/checksum.h"
#include "cache/client/device_share.h"
#include "tests/client/device_fixture.h"

namespace membrain::client_test {
namespace {

using Mood = FakeNode::Mood;

TEST_F(DeviceTransfers, FetchBlocksIntoPagesAndTouchNothingElse) {
  constexpr std::size_t kSize = 80'000;
  const Match match = published(100, kSize);
  std::vector<FetchItem> items;
  for (std::uint32_t i = 0; i < 100; ++i) items.push_back(paged(i, kSize, i % 3 == 0 ? 1 : 10));
  std::vector<std::byte> wanted = held(0, kCacheBytes);
  for (std::uint32_t i = 0; i < 100; ++i) {
    std::size_t done = 0;
    for (const Piece& piece : items[i].into) {
      std::memcpy(wanted.data() + (static_cast<std::byte*>(piece.data) - at(0)),
                  expected_[i].data() + done, piece.size);
      done += piece.size;
    }
  }
  std::vector<bool> told(100);
  TransferOptions options = on_gpu();
  options.on_item = [&](std::size_t item, const ItemOutcome& outcome) {
    EXPECT_FALSE(told[item]);
    EXPECT_EQ(bytes_of(items[item]), expected_[item]) << "told before it was there";
    told[item] = outcome.ok;
  };
  const Result<TransferReport> report = fetch(match, items, options);
  ASSERT_TRUE(report) << report.error().context;
  EXPECT_EQ(report->ok_count(), 100U);
  EXPECT_EQ(report->bytes, 100 * kSize);
  EXPECT_EQ(report->lane_bytes.at("sim"), 100 * kSize);
  EXPECT_EQ(std::ranges::count(told, true), 100);
  EXPECT_TRUE(held(0, kCacheBytes) == wanted);
}

TEST_F(DeviceTransfers, ABlockThatDoesNotComeLeavesItsPagesAsTheyWere) {
  constexpr std::size_t kSize = 4096;
  published(4, kSize);
  shard_.catalog.erase(key_of(1));
  LookupOptions all;
  all.rule = LookupOptions::Rule::all;
  const Match match = lookup({0, 1, 2, 3}, all).value();
  std::vector<FetchItem> items;
  for (std::uint32_t i = 0; i < 4; ++i) items.push_back(paged(i, kSize, 2));
  const std::vector<std::byte> before = bytes_of(items[1]);
  const Result<TransferReport> report = fetch(match, items, on_gpu());
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 3U);
  EXPECT_EQ(report->items[1].why, Errc::not_found);
  EXPECT_EQ(bytes_of(items[1]), before);
  for (const std::size_t i : {0U, 2U, 3U}) EXPECT_EQ(bytes_of(items[i]), expected_[i]);
  EXPECT_EQ(report->bytes, 3 * kSize);
}

TEST_F(DeviceTransfers, NoWrongByteReachesTheGpu) {
  const Match match = published(3, 4096);
  std::vector<FetchItem> items;
  for (std::uint32_t i = 0; i < 3; ++i) items.push_back(paged(i, 4096, 4));
  const std::vector<std::byte> before = held(0, kCacheBytes);
  node1_.mood = Mood::corrupt;
  const Result<TransferReport> report = fetch(match, items, on_gpu());
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 0U);
  EXPECT_EQ(report->items[0].why, Errc::corrupt);
  EXPECT_TRUE(held(0, kCacheBytes) == before);
}

TEST_F(DeviceTransfers, StoreBlocksFromPages) {
  std::vector<StoreItem> items;
  std::vector<FetchItem> pages;
  for (unsigned i = 0; i < 60; ++i) {
    pages.push_back(paged(i, 70'000, 1 + i % 7 * 2));
    items.push_back(block(i, pages.back()));
  }
  const Result<TransferReport> report = store(items, on_gpu());
  ASSERT_TRUE(report) << report.error().context;
  EXPECT_EQ(report->ok_count(), 60U);
  for (unsigned i = 0; i < 60; ++i) {
    const BlockKey key = key_of(i);
    const auto& kept = node1_.stored.contains(key) ? node1_.stored.at(key) : node2_.stored.at(key);
    ASSERT_EQ(kept, bytes_of(pages[i])) << i;
  }
}

TEST_F(DeviceTransfers, WhatTheServerKnowsDoesNotCrossTheBus) {
  std::vector<StoreItem> items;
  std::vector<FetchItem> pages;
  for (unsigned i = 0; i < 8; ++i) {
    if (i % 2 == 0) publish(i, 100'000, {&node1_});
    pages.push_back(paged(i, 100'000, 4));
    items.push_back(block(i, pages.back()));
  }
  std::vector<int> told(8);
  TransferOptions options = on_gpu();
  options.on_item = [&](std::size_t item, const ItemOutcome& outcome) {
    told.at(item) += outcome.duplicate ? 10 : 1;
  };
  Result<TransferReport> report = store(items, options);
  ASSERT_TRUE(report) << report.error().context;
  EXPECT_EQ(shard_.probes.size(), 1U) << "asked once";
  EXPECT_EQ(told, (std::vector<int>{10, 1, 10, 1, 10, 1, 10, 1}));
  for (unsigned i = 0; i < 8; ++i) {
    EXPECT_TRUE(report->items[i].ok);
    EXPECT_EQ(report->items[i].duplicate, i % 2 == 0);
    const auto& node = node1_.stored.contains(key_of(i)) ? node1_ : node2_;
    ASSERT_EQ(node.stored.contains(key_of(i)), i % 2 == 1);
    if (i % 2 == 1) {
      EXPECT_EQ(node.stored.at(key_of(i)), bytes_of(pages[i]));
    }
  }
  for (unsigned i = 1; i < 8; i += 2) publish(i, 100'000, {&node1_});
  const std::uint64_t before = fake::calls();
  report = store(items, on_gpu());
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 8U);
  EXPECT_LE(fake::calls() - before, 8U * 2) << "more than whose memory it is was asked for";
}

TEST_F(DeviceTransfers, AServerThatDoesNotSayWhatItKnowsIsNotWaitedFor) {
  shard_.deaf_to_probes = true;
  std::vector<StoreItem> items;
  for (unsigned i = 0; i < 8; ++i) items.push_back(block(i, paged(i, 100'000, 4)));
  const Result<TransferReport> report = store(items, on_gpu());
  ASSERT_TRUE(report) << report.error().context;
  EXPECT_EQ(report->ok_count(), 8U);
  EXPECT_EQ(node1_.stored.size() + node2_.stored.size(), 8U);
}

TEST_F(DeviceTransfers, OfAGpuThatFailsEndAtOnce) {
  const Match match = published(1, 4096);
  fake::pause(true);
  launch(match, {paged(0, 4096, 2)}, on_gpu());
  run_for(milliseconds(20));
  fake::break_down();
  fake::pause(false);
  settle();
  ASSERT_TRUE(*end_);
  EXPECT_EQ((*end_)->items[0].why, Errc::unavailable);
  EXPECT_EQ((*end_)->bytes, 0U);
}

TEST_F(DeviceTransfers, AreRefusedBeforeAnythingMovesForWhatCannotBe) {
  const Match match = published(2, 4096);
  std::vector<std::byte> host(4096);
  const auto refused = [](const Result<TransferReport>& report) {
    return !report && report.error().code == Errc::invalid_argument;
  };
  TransferOptions elsewhere = on_gpu();
  elsewhere.memory.device = 7;
  EXPECT_TRUE(refused(fetch(match, {paged(0, 4096, 1)}, elsewhere))) << "not opened";
  EXPECT_TRUE(refused(fetch(match, {paged(0, 4096, 1), whole(1, host)}, on_gpu())))
      << "host memory";
  EXPECT_TRUE(refused(fetch(match, {paged(0, 4096, 1), paged(5, 4096, 1)}, on_gpu())));
  EXPECT_TRUE(refused(fetch(match, {paged(0, 4096, 1), paged(1, 2048, 1)}, on_gpu())));
  EXPECT_TRUE(refused(store({block(1, paged(0, kSlotBytes + 2, 2))}, on_gpu()))) << "too large";
  StoreItem nameless = block(1, paged(0, 4096, 1));
  nameless.hash = {};
  EXPECT_TRUE(refused(store({nameless}, on_gpu())));
  EXPECT_TRUE(node1_.fetches.empty());
  EXPECT_TRUE(node1_.stores.empty() && node2_.stores.empty());
}

TEST_F(DeviceTransfers, OffersComeFromAGpuToo) {
  const FetchItem page = paged(0, 30'000, 3);
  StoreOffer offer;
  offer.space = space_;
  offer.list = std::vector<StoreItem>{block(3, page)};
  offer.memory = {kGpu, nullptr};
  std::optional<TransferReport> ended;
  offer.done = [&](const TransferReport& report) { ended = report; };
  ASSERT_TRUE(core_->background().admit(offer));
  core_->background().take(std::move(offer));
  step_until([&] { return ended.has_value(); });
  EXPECT_EQ(ended->ok_count(), 1U);
  const auto& node = node1_.stored.empty() ? node2_ : node1_;
  EXPECT_EQ(node.stored.at(key_of(3)), bytes_of(page));
}

/// On the GPU, and, what it does not hash, here.
TEST_F(DeviceTransfers, OfSharedBlocksMakeTheChecksumsOfTheirBytes) {
  constexpr std::uint32_t kPlanes = 3;
  constexpr std::uint32_t kBlocks = 40;
  for (const std::size_t piece : {40U, 1001U, 4096U, 70'000U}) {
    Layout planes;
    planes.blocks = kBlocks;
    for (std::uint32_t plane = 0; plane < kPlanes; ++plane) {
      planes.planes.push_back({at(plane * kBlocks * piece), piece, piece});
    }
    const RegisteredLayout layout(LayoutGeometry::check(planes).value());
    std::vector<BlockHash> names;
    std::vector<std::uint32_t> ids;
    for (std::uint32_t id = 0; id < kBlocks; ++id) {
      names.push_back(hash_of(id));
      ids.push_back(kBlocks - 1 - id);
    }
    LayoutStore blocks;
    blocks.hashes = names;
    blocks.ids = ids;
    ShareJob job;
    job.list = StoreList::of(layout, blocks).value();
    job.meta = [](const StoreItem&) { return wire::BlockMeta{}; };
    std::map<std::uint32_t, Checksum> sums;
    job.put = [&sums](const SharedBlock& block) {
      sums[block.id] = block.checksum;
      return Result<>{};
    };
    DeviceTerms terms;
    terms.options = on_gpu();
    terms.deadline = clock_.now() + seconds(5);
    DeviceLane& lane = **core_->lane_of({kGpu, nullptr});
    const Result<TransferReport> shared =
        await(data_loop_, share_from_device(lane, std::move(terms), std::move(job)));
    ASSERT_TRUE(shared) << shared.error().context;
    EXPECT_EQ(shared->ok_count(), kBlocks);
    for (std::uint32_t id = 0; id < kBlocks; ++id) {
      ChecksumStream sum;
      for (std::uint32_t plane = 0; plane < kPlanes; ++plane) {
        sum.add({at((plane * kBlocks + id) * piece), piece});
      }
      EXPECT_EQ(sums.at(id), sum.finish()) << piece << " bytes a piece, block " << id;
    }
  }
}

TEST_F(DeviceTransfers, SurviveAnyFailedCallOfTheDriver) {
  constexpr std::size_t kSize = 300'000;
  const Match match = published(8, kSize);
  std::vector<FetchItem> items;
  for (std::uint32_t i = 0; i < 8; ++i) items.push_back(paged(i, kSize, 5));
  const std::uint64_t before = fake::calls();
  ASSERT_EQ(fetch(match, items, on_gpu())->ok_count(), 8U);
  const std::uint64_t needed = fake::calls() - before;
  std::size_t lost = 0;
  for (std::uint64_t call = 0; call < needed; ++call) {
    std::memset(at(0), 0, kCacheBytes);
    fake::fail_call(call, cuda::kOutOfMemory);
    const Result<TransferReport> report = fetch(match, items, on_gpu());
    fake::repair();
    if (!report) {
      ++lost;
      continue;
    }
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (!report->items[i].ok) {
        ++lost;
        continue;
      }
      ASSERT_EQ(bytes_of(items[i]), expected_[i]) << "call " << call;
    }
  }
  EXPECT_GT(lost, 0U);
  EXPECT_EQ(fetch(match, items, on_gpu())->ok_count(), 8U);
}

}  // namespace
}  // namespace membrain::client_test
