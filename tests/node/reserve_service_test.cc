// Slots filled in place by a writer of the node's host: through its life, and what happens when the
// writer, its connection or the node ends before that.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/node/node_world.h"

namespace membrain::node_test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using wire::SlotRef;

std::string make_directory() {
  std::string path = "/dev/shm/membrain-test-XXXXXX";
  return ::mkdtemp(path.data());
}

ArenaConfig arena_in(const std::string& directory) {
  return {"a", 1 << 20, false, directory};
}

/// A node whose arena is a file, and a writer that has it mapped.
class ReserveServiceTest : public NodeWorld {
 protected:
  explicit ReserveServiceTest(std::string directory = make_directory())
      : NodeWorld(Arena::open(arena_in(directory)).value()), directory_(std::move(directory)) {}
  ~ReserveServiceTest() override {
    stop_node();
    std::filesystem::remove_all(directory_);
  }

  void begin() {
    start();
    writer = arena->share_writable().value();
  }
  void restart() {
    stop_node();
    client.peer = {};
    start();
  }
  [[nodiscard]] static wire::ReserveItem item(std::uint64_t key, std::size_t size) {
    return {meta_of(key), static_cast<std::uint32_t>(size)};
  }
  wire::ReservedSlots reserve(std::vector<wire::ReserveItem> items, WriterId by,
                              std::uint32_t deadline_ms = 5000) {
    wire::ReserveSlots request;
    request.proof = proof_of(shard.epoch);
    request.deadline_ms = deadline_ms;
    request.writer = by;
    request.items = std::move(items);
    const OpId op = client.send(request);
    EXPECT_TRUE(run_until([&] { return client.reserved.contains(op.value); }));
    return client.reserved[op.value];
  }
  /// One slot that must be had.
  SlotRef reserve_one(std::uint64_t key, std::size_t size = 16384,
                      std::uint32_t deadline_ms = 5000) {
    const wire::ReservedSlots got = reserve({item(key, size)}, writer.writer, deadline_ms);
    EXPECT_EQ(got.items.at(0).status, ItemStatus::ok);
    return got.items.at(0).at;
  }
  void write(const SlotRef& at, const std::vector<std::byte>& content) {
    std::memcpy(arena->memory(at.slot, content.size()).data(), content.data(), content.size());
  }
  std::vector<ItemStatus> seal(const std::vector<wire::SealItem>& items, WriterId by) {
    wire::SealSlots request;
    request.proof = proof_of(shard.epoch);
    request.deadline_ms = 1000;
    request.writer = by;
    request.items = items;
    const OpId op = client.send(request);
    EXPECT_TRUE(run_until([&] { return client.stored.contains(op.value); }));
    return client.stored[op.value];
  }
  ItemStatus seal(const SlotRef& at, std::uint64_t key, std::size_t size = 16384) {
    return seal({{at, checksum(content_of(key, size))}}, writer.writer).at(0);
  }
  [[nodiscard]] std::uint64_t used() const { return node->service().status().used_slots; }

  std::string directory_;
  Arena::Writable writer;
};

TEST_F(ReserveServiceTest, WhatWasWrittenInPlaceIsABlockLikeAnyOther) {
  begin();
  const SlotRef at = reserve_one(1);
  EXPECT_EQ(used(), 1u);
  EXPECT_EQ(shard.publishes, 0);
  write(at, content_of(1, 16384));
  EXPECT_EQ(seal(at, 1), ItemStatus::ok);
  const wire::SlotEntry entry = shard.held.at(1);
  EXPECT_EQ(entry.slot, at.slot);
  EXPECT_EQ(entry.checksum, checksum(content_of(1, 16384)));
  EXPECT_EQ(fetch(entry), ItemStatus::ok);
  EXPECT_EQ(client.bytes[1], content_of(1, 16384));
  EXPECT_EQ(store(1), ItemStatus::duplicate);
  EXPECT_TRUE(sound());
}

TEST_F(ReserveServiceTest, WhatIsThereIsADuplicateBeforeAnythingIsWritten) {
  begin();
  EXPECT_EQ(store(1), ItemStatus::ok);
  const auto got = reserve({item(1, 16384), item(2, 16384)}, writer.writer);
  EXPECT_EQ(got.items.at(0).status, ItemStatus::duplicate);
  EXPECT_EQ(got.items.at(1).status, ItemStatus::ok);
  EXPECT_EQ(used(), 2u);
}

TEST_F(ReserveServiceTest, TheSecondToSealABlockHasADuplicate) {
  begin();
  const SlotRef first = reserve_one(1);
  const SlotRef second = reserve_one(1);
  EXPECT_NE(first.slot, second.slot);
  write(first, content_of(1, 16384));
  write(second, content_of(1, 16384));
  EXPECT_EQ(seal(first, 1), ItemStatus::ok);
  EXPECT_EQ(seal(second, 1), ItemStatus::duplicate);
  EXPECT_EQ(used(), 1u);
}

TEST_F(ReserveServiceTest, WhatIsNotWhatItsWriterSaysIsNotKept) {
  begin();
  const SlotRef at = reserve_one(1);
  write(at, content_of(2, 16384));
  EXPECT_EQ(seal(at, 1), ItemStatus::corrupt);
  EXPECT_EQ(used(), 0u);
  EXPECT_TRUE(shard.held.empty());
}

TEST_F(ReserveServiceTest, ASlotIsSealedOnceAndOnlyByItsWriter) {
  begin();
  const Arena::Writable other = arena->share_writable().value();
  const SlotRef at = reserve_one(1);
  write(at, content_of(1, 16384));
  const wire::SealItem sealed{at, checksum(content_of(1, 16384))};
  EXPECT_EQ(seal({sealed}, other.writer).at(0), ItemStatus::stale);
  EXPECT_EQ(seal({sealed}, WriterId{5}).at(0), ItemStatus::stale);
  EXPECT_EQ(seal({sealed, sealed}, writer.writer),
            (std::vector{ItemStatus::ok, ItemStatus::stale}));
  EXPECT_EQ(seal({sealed}, writer.writer).at(0), ItemStatus::stale);
  EXPECT_EQ(used(), 1u);
  EXPECT_EQ(fetch(shard.held.at(1)), ItemStatus::ok);
}

TEST_F(ReserveServiceTest, WhatIsGivenBackIsFreeAtOnceAndOnlyByItsWriter) {
  begin();
  const Arena::Writable other = arena->share_writable().value();
  const SlotRef at = reserve_one(1);
  client.send(wire::GiveBackSlots{other.writer, {at}});
  client.send(wire::GiveBackSlots{writer.writer, {{at.slot, Generation{99}}, {SlotId{999}, {}}}});
  EXPECT_EQ(used(), 1u);
  run_for(milliseconds(10));
  EXPECT_EQ(used(), 1u);
  client.send(wire::GiveBackSlots{writer.writer, {at, at}});
  ASSERT_TRUE(run_until([&] { return used() == 0; }));
  EXPECT_TRUE(sound());
}

TEST_F(ReserveServiceTest, AReservationThatIsOverIsNotReusedUntilItsWriterSaysSo) {
  begin();
  const SlotRef at = reserve_one(1, 16384, 100);
  run_for(seconds(2));
  EXPECT_EQ(used(), 1u) << "its writer may only be slow";
  write(at, content_of(1, 16384));
  EXPECT_EQ(reserve({}, writer.writer).lost, std::vector{at});
  EXPECT_EQ(seal(at, 1), ItemStatus::stale);
  EXPECT_EQ(used(), 0u) << "who seals does not write any more";
  EXPECT_TRUE(reserve({}, writer.writer).lost.empty());
}

TEST_F(ReserveServiceTest, ASealThatComesRightAfterTheDeadlineIsTooLate) {
  begin();
  const SlotRef at = reserve_one(1, 16384, 5);
  write(at, content_of(1, 16384));
  run_for(milliseconds(20));
  EXPECT_EQ(seal(at, 1), ItemStatus::stale);
  EXPECT_EQ(used(), 0u);
}

TEST_F(ReserveServiceTest, ALostConnectionLosesItsReservationsAndTheWritersEndFreesThem) {
  begin();
  const SlotRef at = reserve_one(1);
  client.close();
  run_for(seconds(2));
  EXPECT_EQ(used(), 1u) << "the writer lives and may write";
  client.peer = {};
  client.connect("node-data");
  ASSERT_TRUE(run_until([&] { return static_cast<bool>(client.peer); }));
  EXPECT_EQ(reserve({}, writer.writer).lost, std::vector{at});
  writer.file = Descriptor();
  ASSERT_TRUE(run_until([&] { return used() == 0; }));
  EXPECT_TRUE(sound());
}

TEST_F(ReserveServiceTest, AMappingKeepsItsWriterAliveWithoutTheFile) {
  begin();
  const std::size_t size = arena->mapping().size();
  void* mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, writer.file.fd(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  writer.file = Descriptor();
  EXPECT_TRUE(arena->writer_alive(writer.writer));
  reserve_one(1, 16384, 100);
  run_for(seconds(2));
  EXPECT_EQ(used(), 1u);
  ASSERT_EQ(::munmap(mapped, size), 0);
  EXPECT_FALSE(arena->writer_alive(writer.writer));
  ASSERT_TRUE(run_until([&] { return used() == 0; }));
}

TEST_F(ReserveServiceTest, LendsNothingWithoutProofOrToWhoIsNoWriter) {
  begin();
  EXPECT_EQ(reserve({item(1, 100)}, WriterId{77}).items.at(0).status, ItemStatus::denied);
  EXPECT_EQ(reserve({item(1, 100)}, WriterId{}).items.at(0).status, ItemStatus::denied);
  EXPECT_EQ(reserve({item(1, 100)}, WriterId{~0ULL}).items.at(0).status, ItemStatus::denied);
  wire::ReserveSlots request;
  request.proof = proof_of(Epoch{3});
  request.proof.mac[0] ^= std::byte{1};
  request.writer = writer.writer;
  request.deadline_ms = 1000;
  request.items = {item(1, 100)};
  const OpId op = client.send(request);
  ASSERT_TRUE(run_until([&] { return client.reserved.contains(op.value); }));
  EXPECT_EQ(client.reserved[op.value].items.at(0).status, ItemStatus::denied);
  EXPECT_EQ(used(), 0u);
}

TEST_F(ReserveServiceTest, AWriterHasAtMostAQuarterOfTheArena) {
  begin();
  std::vector<wire::ReserveItem> items;
  for (std::uint64_t key = 1; key <= 20; ++key) items.push_back(item(key, 16384));
  const wire::ReservedSlots got = reserve(items, writer.writer);
  ASSERT_EQ(got.items.size(), 20u);
  EXPECT_EQ(got.items.at(15).status, ItemStatus::ok);
  EXPECT_EQ(got.items.at(16).status, ItemStatus::unavailable);
  EXPECT_EQ(used(), 16u);
}

TEST_F(ReserveServiceTest, AFullArenaAsksForVictimsAsAStoreDoes) {
  begin();
  shard.gives_victims = false;
  for (std::uint64_t key = 100; key < 164; ++key) EXPECT_EQ(store(key), ItemStatus::ok);
  EXPECT_EQ(reserve({item(1, 16384)}, writer.writer).items.at(0).status, ItemStatus::full);
  EXPECT_EQ(reserve({item(1, 1 << 27)}, writer.writer).items.at(0).status, ItemStatus::unavailable);
  shard.gives_victims = true;
  ASSERT_TRUE(run_until([&] {
    return reserve({item(1, 16384)}, writer.writer).items.at(0).status == ItemStatus::ok;
  }));
}

/// Another life of the node, on the same file.
TEST_F(ReserveServiceTest, TheNextLifeLeavesAloneWhatALiveWriterWasLent) {
  begin();
  EXPECT_EQ(store(9), ItemStatus::ok);
  const SlotRef at = reserve_one(1);
  Arena::Writable dead = arena->share_writable().value();
  const SlotRef orphan = reserve({item(2, 16384)}, dead.writer).items.at(0).at;
  dead.file = Descriptor();
  EXPECT_FALSE(arena->writer_alive(dead.writer));
  restart();
  EXPECT_EQ(used(), 2u) << "block 9, and the live writer's";
  EXPECT_EQ(seal(at, 1), ItemStatus::stale);
  EXPECT_EQ(used(), 1u);
  EXPECT_NE(orphan.slot, at.slot);
  EXPECT_TRUE(sound());
}

TEST_F(ReserveServiceTest, TheNextLifeFreesItWhenTheWriterHasGone) {
  begin();
  reserve_one(1);
  restart();
  EXPECT_EQ(used(), 1u);
  writer.file = Descriptor();
  ASSERT_TRUE(run_until([&] { return used() == 0; }));
  EXPECT_TRUE(sound());
}

TEST_F(ReserveServiceTest, FramesThatDoNotDecodeCloseTheConnection) {
  begin();
  reserve_one(1);
  wire::SealSlots long_list;
  long_list.items.resize(wire::kMaxReserveItems + 1);
  client.send(long_list);
  ASSERT_TRUE(run_until([&] { return client.lost; }));
  EXPECT_EQ(used(), 1u);
}

}  // namespace
}  // namespace membrain::node_test
