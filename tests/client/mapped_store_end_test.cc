// Stores and reservations in the arena of a node of this host: a server, a node with a file of its
// own, and clients, over UCX and over the node's door.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/client/mapped_house.h"

namespace membrain {
namespace {

using Threads = ClientConfig::Threads;

constexpr unsigned kBlocks = 40;

class MappedStore : public MappedHouse {
 protected:
  MappedStore() : client_(client()), space_(open(*client_)) {}
  Result<TransferReport> store(Client& client, const OpenedNamespace& space) {
    sources_.clear();
    std::vector<StoreItem> items;
    for (unsigned number = 0; number < kBlocks; ++number) {
      sources_.push_back(content(size_of(number), number));
      const std::vector<std::byte>& bytes = sources_.back();
      items.emplace_back().hash = hash_of(number);
      items.back().depth = number;
      const std::size_t cut = bytes.size() / 3;
      items.back().from = {{bytes.data(), cut}, {bytes.data() + cut, bytes.size() - cut}};
    }
    return client.store(space, items);
  }
  std::vector<ReserveItem> wanted(unsigned from = 0) const {
    std::vector<ReserveItem> items;
    for (unsigned number = from; number < kBlocks; ++number) {
      items.emplace_back().hash = hash_of(number);
      items.back().depth = number;
      items.back().size = static_cast<std::uint32_t>(size_of(number));
    }
    return items;
  }
  static void fill(const Reservation& into, unsigned number) {
    const std::vector<std::byte> bytes = content(size_of(number), number);
    ASSERT_EQ(into.bytes().size(), bytes.size());
    std::copy(bytes.begin(), bytes.end(), into.bytes().begin());
  }
  /// All blocks are there, and have the right bytes, over `lane` ("mapped" or another).
  void expect_all_there(Client& reader, bool mapped) {
    const OpenedNamespace space = open(reader);
    std::vector<BlockHash> hashes;
    for (unsigned number = 0; number < kBlocks; ++number) hashes.push_back(hash_of(number));
    const Match match = std::move(reader.lookup(space, hashes).value());
    ASSERT_EQ(match.prefix_blocks(), kBlocks);
    std::vector<std::vector<std::byte>> memory;
    std::vector<FetchItem> items;
    for (unsigned number = 0; number < kBlocks; ++number) {
      memory.emplace_back(size_of(number));
      items.emplace_back().block = number;
      items.back().into = {{memory.back().data(), memory.back().size()}};
    }
    const Result<TransferReport> report = reader.fetch(match, items);
    ASSERT_TRUE(report);
    EXPECT_EQ(report->ok_count(), kBlocks);
    EXPECT_EQ(report->lane_bytes.contains("mapped"), mapped);
    for (unsigned number = 0; number < kBlocks; ++number) {
      ASSERT_EQ(memory[number], content(size_of(number), number)) << number;
    }
  }
  /// Waits, a while, for what the node does by itself.
  template <class Condition>
  bool comes_true(Condition condition) {
    const TimePoint end = SteadyClock().now() + std::chrono::seconds(20);
    while (!condition() && SteadyClock().now() < end) {
      client_->poll();
      std::this_thread::yield();
    }
    return condition();
  }
  [[nodiscard]] std::uint64_t used() const { return node_->status().used_slots; }

  std::unique_ptr<Client> client_;
  OpenedNamespace space_;
  std::vector<std::vector<std::byte>> sources_;
};

TEST_P(MappedStore, EveryByteIsWrittenIntoTheArenaItself) {
  const Result<TransferReport> report = store(*client_, space_);
  ASSERT_TRUE(report) << report.error().context;
  EXPECT_EQ(report->ok_count(), kBlocks);
  ASSERT_TRUE(report->lane_bytes.contains("mapped"));
  EXPECT_EQ(report->lane_bytes.at("mapped"), report->bytes);
  EXPECT_EQ(used(), kBlocks);
  expect_all_there(*client(), true);
  expect_all_there(*client(false), false);
  const Result<TransferReport> again = store(*client_, space_);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->bytes, 0u);
  EXPECT_TRUE(std::all_of(again->items.begin(), again->items.end(),
                          [](const ItemOutcome& item) { return item.ok && item.duplicate; }));
  EXPECT_EQ(used(), kBlocks);
}

TEST_P(MappedStore, AClientThatDoesNotMapSendsItsBlocks) {
  const auto plain = client(false);
  const OpenedNamespace space = open(*plain);
  const Result<TransferReport> report = store(*plain, space);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), kBlocks);
  EXPECT_FALSE(report->lane_bytes.contains("mapped"));
  EXPECT_EQ(plain->reserve(space, wanted()).error().code, Errc::unavailable);
  expect_all_there(*client_, true);
}

TEST_P(MappedStore, WhatIsWrittenIntoReservationsIsThereWhenItIsSealed) {
  Result<std::vector<Reservation>> reserved = client_->reserve(space_, wanted());
  ASSERT_TRUE(reserved) << reserved.error().context;
  for (unsigned number = 0; number < kBlocks; ++number) {
    ASSERT_TRUE((*reserved)[number].granted()) << number;
    fill((*reserved)[number], number);
  }
  EXPECT_EQ(used(), kBlocks);
  const Result<TransferReport> report = client_->seal(std::move(*reserved));
  ASSERT_TRUE(report) << report.error().context;
  EXPECT_EQ(report->ok_count(), kBlocks);
  EXPECT_EQ(report->lane_bytes.at("mapped"), report->bytes);
  expect_all_there(*client(), true);
}

TEST_P(MappedStore, WhatIsThereIsADuplicateBeforeItIsWritten) {
  ASSERT_TRUE(store(*client_, space_));
  const Result<std::vector<Reservation>> reserved = client_->reserve(space_, wanted());
  ASSERT_TRUE(reserved);
  for (const Reservation& one : *reserved) {
    EXPECT_TRUE(one.duplicate());
    EXPECT_FALSE(one.granted());
  }
  EXPECT_EQ(used(), kBlocks);
}

TEST_P(MappedStore, AReservationThatIsDestroyedLeavesTheSpaceAsItWas) {
  const std::uint64_t before = node_->status().free_bytes;
  {
    const Result<std::vector<Reservation>> reserved = client_->reserve(space_, wanted());
    ASSERT_TRUE(reserved);
    EXPECT_LT(node_->status().free_bytes, before);
  }
  EXPECT_TRUE(comes_true([&] { return node_->status().free_bytes == before; }));
  EXPECT_EQ(used(), 0u);
}

TEST_P(MappedStore, AReservationOutlivesItsClient) {
  Result<std::vector<Reservation>> reserved = client_->reserve(space_, wanted());
  ASSERT_TRUE(reserved);
  auto other = client();
  client_.reset();
  for (unsigned number = 0; number < kBlocks; ++number) fill((*reserved)[number], number);
  EXPECT_EQ(used(), kBlocks);
  client_ = std::move(other);
  reserved->clear();
  EXPECT_TRUE(comes_true([&] { return used() == 0; })) << "the mapping has gone";
}

TEST_P(MappedStore, WhatIsNotWrittenOrSealedTwiceIsNotKept) {
  Result<std::vector<Reservation>> reserved = client_->reserve(space_, wanted(kBlocks - 2));
  ASSERT_TRUE(reserved);
  fill((*reserved)[0], kBlocks - 2);
  std::vector<Reservation> first;
  first.push_back(std::move((*reserved)[0]));
  EXPECT_FALSE((*reserved)[0].granted());
  const Result<TransferReport> sealed = client_->seal(std::move(first));
  ASSERT_TRUE(sealed);
  EXPECT_TRUE(sealed->items.at(0).ok);
  const Result<TransferReport> again = client_->seal(std::move(*reserved));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->items.at(0).why, Errc::invalid_argument);
}

TEST_P(MappedStore, AReservationThatIsOverIsStaleAndItsSlotComesBack) {
  Result<std::vector<Reservation>> reserved =
      client_->reserve(space_, wanted(), std::chrono::milliseconds(30));
  ASSERT_TRUE(reserved);
  const TimePoint over = SteadyClock().now() + std::chrono::milliseconds(60);
  ASSERT_TRUE(comes_true([&] { return SteadyClock().now() >= over; }));
  for (unsigned number = 0; number < kBlocks; ++number) {
    if ((*reserved)[number].granted()) fill((*reserved)[number], number);
  }
  const Result<TransferReport> report = client_->seal(std::move(*reserved));
  ASSERT_TRUE(report);
  for (const ItemOutcome& item : report->items) EXPECT_EQ(item.ok, false);
  EXPECT_EQ(report->items[0].why, Errc::stale);
  EXPECT_TRUE(comes_true([&] { return used() == 0; }));
  EXPECT_EQ(store(*client_, space_)->ok_count(), kBlocks);
}

TEST_P(MappedStore, ANodeThatGoesBetweenReserveAndSealLosesOnlyTheBlocks) {
  Result<std::vector<Reservation>> reserved = client_->reserve(space_, wanted());
  ASSERT_TRUE(reserved);
  node_.reset();
  for (unsigned number = 0; number < kBlocks; ++number) fill((*reserved)[number], number);
  const Result<TransferReport> report =
      client_->seal(std::move(*reserved), std::chrono::milliseconds(2000));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 0u);
  start_node("second");
  const auto stored = [&] {
    const Result<TransferReport> again = store(*client_, space_);
    return again && again->ok_count() == kBlocks;
  };
  EXPECT_TRUE(comes_true(stored));
  expect_all_there(*client(), true);
}

INSTANTIATE_TEST_SUITE_P(Threads, MappedStore, testing::Values(Threads::own, Threads::caller),
                         [](const auto& mode) {
                           return mode.param == Threads::own ? "Own" : "Caller";
                         });

}  // namespace
}  // namespace membrain
