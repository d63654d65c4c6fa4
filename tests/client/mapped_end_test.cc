// Fetches from a node of this host whose arena is mapped: a server, a node with a file of its own,
// and clients, over UCX and over the node's door.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/client/mapped_house.h"

namespace membrain {
namespace {

using Threads = ClientConfig::Threads;

constexpr unsigned kBlocks = 40;

class MappedEndToEnd : public MappedHouse {
 protected:
  static std::size_t stored(Client& client, const OpenedNamespace& space) {
    std::vector<std::vector<std::byte>> memory;
    std::vector<StoreItem> items;
    for (unsigned number = 0; number < kBlocks; ++number) {
      memory.push_back(content(size_of(number), number));
      items.emplace_back().hash = hash_of(number);
      items.back().depth = number;
      items.back().from = {{memory.back().data(), memory.back().size()}};
    }
    const Result<TransferReport> report = client.store(space, items);
    return report ? report->ok_count() : 0;
  }
  static void store(Client& client, const OpenedNamespace& space) {
    ASSERT_EQ(stored(client, space), kBlocks);
  }
  static Match look_up(Client& client, const OpenedNamespace& space) {
    std::vector<BlockHash> hashes;
    for (unsigned number = 0; number < kBlocks; ++number) hashes.push_back(hash_of(number));
    return std::move(client.lookup(space, hashes).value());
  }
  /// Items for all of the match, and memory for them.
  std::vector<FetchItem> items() {
    memory_.clear();
    std::vector<FetchItem> items;
    for (unsigned number = 0; number < kBlocks; ++number) {
      memory_.emplace_back(size_of(number));
      items.emplace_back().block = number;
      items.back().into = {{memory_.back().data(), memory_.back().size()}};
    }
    return items;
  }
  void expect_all(const Result<TransferReport>& report, const std::string& lane) const {
    ASSERT_TRUE(report) << report.error().context;
    EXPECT_EQ(report->ok_count(), kBlocks);
    for (unsigned number = 0; number < kBlocks; ++number) {
      ASSERT_EQ(memory_[number], content(size_of(number), number)) << number;
    }
    EXPECT_EQ(report->lane_bytes.contains("mapped"), lane == "mapped");
    if (lane == "mapped") {
      EXPECT_EQ(report->lane_bytes.at("mapped"), report->bytes);
    }
  }

  std::vector<std::vector<std::byte>> memory_;
};

TEST_P(MappedEndToEnd, EveryByteComesFromTheArenaItself) {
  const auto client = this->client();
  const OpenedNamespace space = open(*client);
  store(*client, space);
  const Match match = look_up(*client, space);
  const std::vector<FetchItem> wanted = items();
  const std::uint64_t asked = node_->status().fetches;
  expect_all(client->fetch(match, wanted), "mapped");
  memory_.assign(memory_.size(), {});
  const std::vector<FetchItem> again = items();
  expect_all(client->fetch_async(match, again).wait(), "mapped");
  EXPECT_EQ(node_->status().fetches, asked) << "nobody was asked";
}

TEST_P(MappedEndToEnd, BlocksAreViewedWhereTheyLie) {
  const auto client = this->client();
  const OpenedNamespace space = open(*client);
  store(*client, space);
  const Match match = look_up(*client, space);
  const std::vector<FetchItem> wanted = items();
  const Result<std::vector<View>> views = client->fetch_view(match, wanted);
  ASSERT_TRUE(views) << views.error().context;
  for (unsigned number = 0; number < kBlocks; ++number) {
    const std::vector<std::byte> bytes = content(size_of(number), number);
    EXPECT_TRUE(std::ranges::equal((*views)[number].bytes(), bytes)) << number;
    EXPECT_TRUE((*views)[number].finish());
  }
  const auto afar = this->client(false);
  EXPECT_EQ(afar->fetch_view(match, wanted).error().code, Errc::unavailable);
}

TEST_P(MappedEndToEnd, AClientThatDeclinesItAsksTheNode) {
  const auto client = this->client(false);
  const OpenedNamespace space = open(*client);
  store(*client, space);
  const Match match = look_up(*client, space);
  const std::vector<FetchItem> wanted = items();
  expect_all(client->fetch(match, wanted), "checked");
}

TEST_P(MappedEndToEnd, WithoutCopyThreadsAnAsynchronousFetchAsksTheNode) {
  const auto client = this->client(true, 0);
  const OpenedNamespace space = open(*client);
  store(*client, space);
  const Match match = look_up(*client, space);
  const std::vector<FetchItem> wanted = items();
  const bool copies_in_the_call = GetParam() == Threads::caller;
  expect_all(client->fetch_async(match, wanted).wait(), copies_in_the_call ? "mapped" : "checked");
}

/// An engine's cache: planes of pieces, and blocks of them by their ids.
class LayoutEndToEnd : public MappedEndToEnd {
 protected:
  static constexpr std::size_t kPlanes = 6;
  static constexpr std::uint32_t kIds = 32;
  static constexpr std::uint32_t kStored = 16;

  explicit LayoutEndToEnd(std::size_t piece = 2000)
      : cache_(content(kPlanes * kIds * piece, 77)), layout_(planes(piece)) {}
  RegisteredLayout planes(std::size_t piece) {
    Layout layout;
    layout.blocks = kIds;
    for (std::size_t plane = 0; plane < kPlanes; ++plane) {
      layout.planes.push_back({cache_.data() + plane * kIds * piece, piece, piece});
    }
    return Client::register_layout(layout).value();
  }
  static std::vector<BlockHash> hashes() {
    std::vector<BlockHash> hashes;
    for (unsigned number = 0; number < kStored; ++number) hashes.push_back(hash_of(500 + number));
    return hashes;
  }
  static Match look_up(Client& client, const OpenedNamespace& space) {
    return std::move(client.lookup(space, hashes()).value());
  }
  /// Stores ids 0 to 15; they will be fetched into 16 to 31.
  void store(Client& client, const OpenedNamespace& space) {
    const std::vector<BlockHash> names = hashes();
    const auto report = client.store(space, layout_, {.hashes = names});
    ASSERT_TRUE(report) << report.error().context;
    ASSERT_EQ(report->ok_count(), kStored);
  }
  [[nodiscard]] bool came_over(const Result<TransferReport>& report, bool mapped) {
    const std::size_t plane = cache_.size() / kPlanes;
    bool equal =
        report && report->ok_count() == kStored && report->lane_bytes.contains("mapped") == mapped;
    for (std::size_t i = 0; i < kPlanes; ++i) {
      const auto at = cache_.begin() + static_cast<std::ptrdiff_t>(i * plane);
      const auto half = static_cast<std::ptrdiff_t>(plane / 2);
      equal = equal && std::equal(at, at + half, at + half);
      std::fill(at + half, at + 2 * half, std::byte{0});
    }
    return equal;
  }

  std::vector<std::byte> cache_;
  RegisteredLayout layout_;
};

TEST_P(LayoutEndToEnd, BlocksAreCopiedFromTheArenaIntoTheirPieces) {
  const auto client = this->client();
  const OpenedNamespace space = open(*client);
  store(*client, space);
  const Match match = look_up(*client, space);
  const LayoutFetch wanted{.first_id = kStored, .count = kStored};
  const std::uint64_t asked = node_->status().fetches;
  EXPECT_TRUE(came_over(client->fetch(match, layout_, wanted), true));
  EXPECT_TRUE(came_over(client->fetch_async(match, layout_, wanted).wait(), true));
  EXPECT_EQ(node_->status().fetches, asked) << "nobody was asked";
  const auto afar = this->client(false);
  const Match theirs = look_up(*afar, open(*afar));
  EXPECT_TRUE(came_over(afar->fetch(theirs, layout_, wanted), false));
}

TEST_P(LayoutEndToEnd, WhatIsOfferedByItsIdsIsStored) {
  const auto client = this->client();
  const OpenedNamespace space = open(*client);
  const std::vector<BlockHash> names = hashes();
  std::promise<TransferReport> promise;
  std::future<TransferReport> ended = promise.get_future();
  const auto done = [&](const TransferReport& report) { promise.set_value(report); };
  const std::vector<std::uint32_t> outside = {kIds};
  EXPECT_EQ(client->offer(space, layout_, {.hashes = std::span(names).first(1), .ids = outside})
                .error()
                .code,
            Errc::invalid_argument);
  ASSERT_TRUE(client->offer(space, layout_, {.hashes = names}, done));
  while (GetParam() == Threads::caller &&
         ended.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    client->poll();
  }
  EXPECT_EQ(ended.get().ok_count(), kStored);
  const Match match = look_up(*client, space);
  EXPECT_TRUE(
      came_over(client->fetch(match, layout_, {.first_id = kStored, .count = kStored}), true));
}

TEST_P(LayoutEndToEnd, IdsThatCannotBeAreRefusedBeforeAnythingMoves) {
  const auto client = this->client();
  const OpenedNamespace space = open(*client);
  store(*client, space);
  const Match match = look_up(*client, space);
  const std::vector<std::byte> before = cache_;
  const auto refused = [&](const LayoutFetch& wanted) {
    return client->fetch(match, layout_, wanted).error().code == Errc::invalid_argument &&
           client->fetch_async(match, layout_, wanted).wait().error().code ==
               Errc::invalid_argument;
  };
  const std::vector<std::uint32_t> outside = {1, kIds};
  const std::vector<std::uint32_t> twice = {20, 21, 20};
  EXPECT_TRUE(refused({.ids = outside}));
  EXPECT_TRUE(refused({.ids = twice}));
  EXPECT_TRUE(refused({.first_id = kIds - 1, .count = 2}));
  EXPECT_TRUE(refused({.first_id = 16, .count = 2, .first_block = kStored - 1}));
  EXPECT_TRUE(refused({.count = 1, .first_plane = kPlanes}));
  EXPECT_EQ(cache_, before);
}

TEST_P(MappedEndToEnd, OnItemIsToldOfEveryItemOnce) {
  const auto client = this->client();
  const OpenedNamespace space = open(*client);
  store(*client, space);
  const Match match = look_up(*client, space);
  const std::vector<FetchItem> wanted = items();
  std::vector<int> told(kBlocks);
  TransferOptions options;
  options.on_item = [&](std::size_t item, const ItemOutcome& outcome) {
    told[item] += outcome.ok ? 1 : 100;
  };
  expect_all(client->fetch_async(match, wanted, options).wait(), "mapped");
  EXPECT_EQ(told, std::vector<int>(kBlocks, 1));
}

TEST_P(MappedEndToEnd, ANodeThatIsGoneIsNotReadAnyMore) {
  const auto client = this->client();
  const OpenedNamespace space = open(*client);
  store(*client, space);
  const Match match = look_up(*client, space);
  node_.reset();
  start_node("second");
  // The server forgets the first node, and the client hears of the second, in their own time: until
  // then there are misses, and never a wrong byte.
  const TimePoint patience = SteadyClock().now() + std::chrono::seconds(30);
  std::size_t right = 0;
  while (right < kBlocks && SteadyClock().now() < patience) {
    static_cast<void>(stored(*client, space));
    const Match fresh = look_up(*client, space);
    const std::vector<FetchItem> wanted = items();
    const Result<TransferReport> report = client->fetch(fresh, wanted);
    ASSERT_TRUE(report) << report.error().context;
    right = 0;
    for (unsigned number = 0; number < kBlocks; ++number) {
      if (!report->items[number].ok) continue;
      ASSERT_EQ(memory_[number], content(size_of(number), number)) << number;
      ++right;
    }
  }
  EXPECT_EQ(right, kBlocks);
}

TEST_P(MappedEndToEnd, AClientMayEndWithCopiesUnderWay) {
  auto client = this->client();
  const OpenedNamespace space = open(*client);
  store(*client, space);
  Match match = look_up(*client, space);
  const std::vector<FetchItem> wanted = items();
  std::vector<Operation<TransferReport>> operations;
  for (int i = 0; i < 20; ++i) operations.push_back(client->fetch_async(match, wanted));
  operations.back().cancel();
  match.release();
  match = Match();
  client.reset();
  for (Operation<TransferReport>& operation : operations) EXPECT_TRUE(operation.done());
}

std::string name_of(const testing::TestParamInfo<Threads>& mode) {
  return mode.param == Threads::own ? "OfItsOwn" : "OfTheCaller";
}

INSTANTIATE_TEST_SUITE_P(WithThreads, MappedEndToEnd,
                         testing::Values(Threads::own, Threads::caller), name_of);
INSTANTIATE_TEST_SUITE_P(WithThreads, LayoutEndToEnd,
                         testing::Values(Threads::own, Threads::caller), name_of);

}  // namespace
}  // namespace membrain
