// Stores into the arena of a node of this host: what the node lends is written, what it does not
// lend, or takes for lost, is sent in the same operation, and every slot is sealed or given back.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/checksum.h"
#include "cache/client/reserve.h"
#include "cache/node/arena.h"
#include "tests/client/fake_cluster.h"
#include "tests/client/reluctant_fabric.h"

namespace membrain::client_test {
namespace {

using wire::ItemStatus;
using wire::SlotRef;

/// Hands out the arena of node 1.
class FileOpener final : public ArenaOpener {
 public:
  FileOpener(const Arena& arena, std::size_t& asked, bool refuses) noexcept
      : arena_(arena), asked_(asked), refuses_(refuses) {}
  Task<Result<std::shared_ptr<const MappedArena>>> open(wire::NodeEntry node, TimePoint) override {
    const Result<Descriptor> file = arena_.share();
    co_return MappedArena::map(*file, node.node, node.incarnation);
  }
  Task<Result<std::shared_ptr<const WritableArena>>> open_writable(wire::NodeEntry node,
                                                                   TimePoint) override {
    ++asked_;
    if (refuses_) co_return fail(Errc::denied, "no");
    const Result<Arena::Writable> writable = arena_.share_writable();
    co_return WritableArena::map(writable->file, node.node, node.incarnation, writable->writer);
  }

 private:
  const Arena& arena_;
  std::size_t& asked_;
  bool refuses_;
};

Task<> request_cancel(std::shared_ptr<CancelToken> cancel) {
  const std::shared_ptr<CancelToken> token = std::move(cancel);
  token->request();
  co_return;
}

class StoreInPlace : public ClientTest {
 protected:
  StoreInPlace() {
    std::string path = "/dev/shm/membrain-test-XXXXXX";
    directory_ = ::mkdtemp(path.data());
    arena_ = Arena::open({"a", 8 << 20, false, directory_}).value();
    arena_->begin_life();
    auto* header = reinterpret_cast<ArenaHeader*>(const_cast<std::byte*>(arena_->mapping().data()));
    header->node = 1;
    header->layout_check = header->check_of();
    shard_.nodes = {&node1_};
    node1_.host = "here";
    node1_.door = "a door";
    node1_.lend = [this](const wire::ReserveSlots& request) { return lend(request); };
    node1_.seal = [this](const wire::SealSlots& request) { return seal(request); };
    opener_ = std::make_unique<FileOpener>(*arena_, asked_, false);
  }
  ~StoreInPlace() override {
    stop();
    std::filesystem::remove_all(directory_);
  }

  StoreItem block(unsigned number, std::size_t size) {
    StoreItem item;
    item.hash = hash_of(number);
    memory_.push_back(content(size, number));
    const std::byte* data = memory_.back().data();
    item.from = {{data, size / 2}, {data + size / 2, size - size / 2}};
    return item;
  }
  wire::ReservedSlots lend(const wire::ReserveSlots& request) {
    EXPECT_TRUE(arena_->writer_alive(request.writer));
    ++reserves_;
    wire::ReservedSlots answer;
    answer.lost = lost_;
    for (const wire::ReserveItem& item : request.items) {
      const auto told = lend_status_.find(item.meta.key);
      wire::ReservedItem& got = answer.items.emplace_back();
      got.status = told == lend_status_.end() ? ItemStatus::ok : told->second;
      if (got.status != ItemStatus::ok) continue;
      got.at = {SlotId{next_slot_}, Generation{++generation_}};
      next_slot_ += (item.length + kPageBytes - 1) / kPageBytes;
      lent_[got.at.generation] = {item.meta.key, item.length};
    }
    return answer;
  }
  wire::Stored seal(const wire::SealSlots& request) {
    wire::Stored answer;
    for (const wire::SealItem& item : request.items) {
      const auto [key, length] = lent_.at(item.at.generation);
      const std::span<const std::byte> bytes = arena_->memory(item.at.slot, length);
      EXPECT_EQ(item.checksum, checksum(bytes));
      answer.statuses.push_back(seal_status_);
      if (seal_status_ == ItemStatus::ok) sealed_[key].assign(bytes.begin(), bytes.end());
    }
    return answer;
  }

  std::string directory_;
  std::unique_ptr<Arena> arena_;
  std::size_t asked_ = 0;  ///< for writing
  std::list<std::vector<std::byte>> memory_;
  std::map<BlockKey, ItemStatus> lend_status_;  ///< `ok` for others
  ItemStatus seal_status_ = ItemStatus::ok;
  std::vector<SlotRef> lost_;
  std::size_t reserves_ = 0;
  std::uint32_t next_slot_ = 0;
  std::uint64_t generation_ = 10;
  std::map<Generation, std::pair<BlockKey, std::uint32_t>> lent_;
  std::map<BlockKey, std::vector<std::byte>> sealed_;
};

TEST_F(StoreInPlace, BlocksAreWrittenWhereTheyWillLie) {
  begin();
  std::vector<StoreItem> items;
  for (unsigned number = 0; number < 20; ++number) items.push_back(block(number, 70'000 + number));
  items.push_back(block(20, 2'500'000));
  const Result<TransferReport> report = store(items);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 21u);
  EXPECT_EQ(report->lane_bytes.at("mapped"), report->bytes);
  EXPECT_EQ(reserves_, 1u) << "one message for all";
  EXPECT_TRUE(node1_.stores.empty());
  for (unsigned number = 0; number < 21; ++number) {
    EXPECT_EQ(sealed_.at(key_of(number)), *std::next(memory_.begin(), number));
  }
  EXPECT_EQ(store({block(30, 100)})->ok_count(), 1u);
  EXPECT_EQ(asked_, 1u) << "it is mapped once";
}

TEST_F(StoreInPlace, WhatANodeCannotBeAskedIsNotWaitedFor) {
  int asked = 0;
  data_ = std::make_unique<ReluctantFabric>(std::move(data_), [&](auto frame) {
    return type_of(frame) == wire::Type::reserve_slots && ++asked == 1;
  });
  begin();
  const TimePoint before = clock_.now();
  ASSERT_TRUE(store({block(1, 1000)}));
  EXPECT_EQ(asked, 1);
  EXPECT_LT(clock_.now() - before, seconds(1));
  run_for(seconds(3));  // until the node is tried again
  EXPECT_EQ(store({block(2, 1000)})->ok_count(), 1u);
}

TEST_F(StoreInPlace, ADuplicateIsNotWritten) {
  begin();
  lend_status_[key_of(1)] = ItemStatus::duplicate;
  const Result<TransferReport> report = store({block(1, 1000), block(2, 1000)});
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->items[0].ok && report->items[0].duplicate);
  EXPECT_TRUE(report->items[1].ok && !report->items[1].duplicate);
  EXPECT_EQ(report->bytes, 1000u);
}

TEST_F(StoreInPlace, WhatIsNotLentIsSent) {
  begin();
  lend_status_[key_of(1)] = ItemStatus::unavailable;
  lend_status_[key_of(3)] = ItemStatus::full;
  const Result<TransferReport> report =
      store({block(1, 1000), block(2, 1000), block(3, 300'000), block(4, 1000)});
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 4u);
  EXPECT_EQ(report->lane_bytes.at("mapped"), 2000u);
  EXPECT_EQ(node1_.stored.at(key_of(1)), *memory_.begin());
  EXPECT_EQ(node1_.stored.at(key_of(3)), *std::next(memory_.begin(), 2));
  EXPECT_EQ(node1_.stored.size(), 2u);
}

TEST_F(StoreInPlace, WhatWasLostMeanwhileIsSentInTheSameOperation) {
  begin();
  seal_status_ = ItemStatus::stale;
  const Result<TransferReport> report = store({block(1, 1000), block(2, 200'000)});
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 2u);
  EXPECT_FALSE(report->lane_bytes.contains("mapped"));
  EXPECT_EQ(node1_.stored.at(key_of(2)), memory_.back());
}

TEST_F(StoreInPlace, TheNodesVerdictOnASealedBlockStands) {
  begin();
  seal_status_ = ItemStatus::corrupt;
  EXPECT_EQ(store({block(1, 1000)})->items[0].why, Errc::corrupt);
  seal_status_ = ItemStatus::old_era;
  EXPECT_EQ(store({block(2, 1000)})->items[0].why, Errc::stale);
  EXPECT_TRUE(node1_.stores.empty());
}

TEST_F(StoreInPlace, ANodeThatKnowsNoReservationsIsSentTheBlocks) {
  node1_.lend = nullptr;
  begin();
  EXPECT_EQ(store({block(1, 1000)})->ok_count(), 1u);
  EXPECT_EQ(node1_.stored.size(), 1u);
}

TEST_F(StoreInPlace, ADoorThatRefusesIsAskedOnce) {
  opener_ = std::make_unique<FileOpener>(*arena_, asked_, true);
  begin();
  EXPECT_EQ(store({block(1, 1000)})->ok_count(), 1u);
  EXPECT_EQ(store({block(2, 1000)})->ok_count(), 1u);
  EXPECT_EQ(asked_, 1u);
  EXPECT_EQ(reserves_, 0u);
  EXPECT_EQ(node1_.stored.size(), 2u);
}

TEST_F(StoreInPlace, GivesBackWhatTheNodeCallsLostAndNobodyWritesTo) {
  begin();
  lost_ = {{SlotId{3}, Generation{5}}, {SlotId{0}, Generation{11}}};  // 11: lent just now
  EXPECT_EQ(store({block(1, 1000)})->ok_count(), 1u);
  EXPECT_EQ(node1_.given_back, std::vector{lost_[0]});
}

TEST_F(StoreInPlace, ASlotOutsideTheArenaIsNotWritten) {
  begin();
  next_slot_ = (8 << 20) / kPageBytes - 1;
  const Result<TransferReport> report = store({block(1, 5000)});
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 1u);
  EXPECT_EQ(node1_.stored.size(), 1u);
  step_until([&] { return node1_.given_back.size() == 1; });
}

TEST_F(StoreInPlace, SlotsWhoseSealWasNotTakenAreGivenBack) {
  begin();
  node1_.seal = nullptr;
  const Result<TransferReport> report = store({block(1, 1000), block(2, 1000)});
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 0u);
  step_until([&] { return node1_.given_back.size() == 2; });
  for (const SlotRef& at : node1_.given_back) EXPECT_TRUE(lent_.contains(at.generation));
}

TEST_F(StoreInPlace, SoAreThoseThatTheCallerHasWritten) {
  begin();
  ReserveItem item;
  item.hash = hash_of(1);
  item.size = 1000;
  auto reserved = await(data_loop_, core_->reserve(space_, {item}, seconds(5)));
  ASSERT_TRUE(reserved);
  ASSERT_TRUE(reserved->at(0).granted());
  std::vector<WrittenBlock> blocks(1);
  blocks[0].checksum = checksum(reserved->at(0).bytes());
  blocks[0].slot = reserved->at(0).take();
  node1_.seal = nullptr;
  const auto report = await(data_loop_, core_->seal(std::move(blocks), seconds(5)));
  ASSERT_TRUE(report);
  EXPECT_FALSE(report->items[0].ok);
  step_until([&] { return node1_.given_back.size() == 1; });
  EXPECT_TRUE(lent_.contains(node1_.given_back[0].generation));
}

TEST_F(StoreInPlace, AStoreThatIsTakenBackAsksForNothingMore) {
  begin();
  ASSERT_TRUE(store({block(9, 100)}));
  network_.pause("node1");  // it lends nothing any more
  std::vector<StoreItem> items;
  for (unsigned number = 10; number <= 10 + Storing::kWindow; ++number) {
    items.push_back(block(number, Storing::kInPlaceBytes / 2 + 1));  // a batch each
  }
  TransferOptions options;
  options.timeout = std::chrono::minutes(10);
  const auto cancel = std::make_shared<CancelToken>();
  std::optional<Result<TransferReport>> result;
  data_loop_.spawn(put_into(core_->store(space_, items, options, cancel), result));
  run_for(milliseconds(100));
  ASSERT_FALSE(result);
  const TimePoint taken_back = clock_.now();
  data_loop_.spawn(request_cancel(cancel));
  step_until([&] { return result.has_value(); });
  EXPECT_EQ(clock_.now(), taken_back);
  EXPECT_EQ(result->error().code, Errc::cancelled);
  network_.resume("node1");
}

TEST_F(StoreInPlace, AStoreThatIsTakenBackGivesItsSlotsBack) {
  begin();
  ASSERT_TRUE(store({block(9, 100)}));
  auto cancel = std::make_shared<CancelToken>();
  node1_.lend = [&](const wire::ReserveSlots& request) {
    data_loop_.spawn(request_cancel(cancel));
    return lend(request);
  };
  const std::vector<StoreItem> items = {block(1, 400'000), block(2, 400'000)};
  const auto result = await(data_loop_, core_->store(space_, items, TransferOptions{}, cancel));
  EXPECT_EQ(result.error().code, Errc::cancelled);
  const auto at_rest = [&] { return node1_.given_back.size() == 2 || sealed_.size() == 3; };
  if (!at_rest()) {
    // The reservation was taken back before its answer came: the next one names what was lost.
    node1_.lend = [this](const wire::ReserveSlots& request) { return lend(request); };
    for (const auto& [generation, named] : lent_) {
      if (!sealed_.contains(named.first)) lost_.push_back({SlotId{0}, generation});
    }
    ASSERT_TRUE(store({block(10, 100)}));
    EXPECT_EQ(node1_.given_back.size(), 2u);
  }
}

}  // namespace
}  // namespace membrain::client_test
