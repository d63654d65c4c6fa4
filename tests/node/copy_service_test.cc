// A node that is told to copy: what it asks the source for, keeps, and says to the shard.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "cache/node/copy_service.h"
#include "tests/node/node_world.h"

namespace membrain::node_test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint32_t kSize = 16384;

/// Another node by script.
class FakeSource final : public Receiver {
 public:
  FakeSource(SimNetwork& network, ManualClock& clock)
      : loop_(clock), fabric_(network.make_fabric(loop_, "source")) {
    fabric_->set_receiver(*this);
    EXPECT_TRUE(fabric_->listen("source"));
  }

  void on_message(PeerId from, std::span<const std::byte> bytes, Payload) override {
    const auto frame = wire::read_frame(bytes);
    ASSERT_TRUE(frame);
    if (frame->header.type == wire::Type::suspect) ++suspicions;
    if (frame->header.type == wire::Type::cancel_fetch) ++cancels;
    if (frame->header.type != wire::Type::fetch) return;
    peers.insert(from.value);
    fetches.push_back(*wire::read_body<wire::Fetch>(frame->body));
    if (deaf > 0) return static_cast<void>(--deaf);
    wire::Header head;
    head.op = frame->header.op;
    if (refuses) return send(from, head, wire::Refused{Errc::unavailable, "not now"});
    for (const wire::FetchItem& item : fetches.back().items) answer(from, head, item);
  }
  void on_lost(PeerId, const Error&) override {}

  int deaf = 0;  ///< so many Fetch go unheard
  bool refuses = false;
  bool garbles = false;         ///< sends other bytes
  std::uint32_t cut_bytes = 0;  ///< sends so many less
  ItemStatus status = ItemStatus::ok;
  std::vector<wire::Fetch> fetches;
  std::set<std::uint64_t> peers;
  int suspicions = 0;
  int cancels = 0;

 private:
  struct Sending {
    explicit Sending(Loop& loop) : done(loop.ready()) {}
    std::vector<std::byte> bytes;
    Completion done;
  };
  template <class Message>
  void send(PeerId to, const wire::Header& head, const Message& message) {
    std::vector<std::byte> frame;
    static_cast<void>(fabric_->send(to, wire::write_frame(frame, head, message)));
  }
  void answer(PeerId to, const wire::Header& head, const wire::FetchItem& item) {
    if (status != ItemStatus::ok) return send(to, head, wire::Data{{{item.tag, status, 0}}});
    Sending& sending = sendings_.emplace_back(loop_);
    sending.bytes = content_of(item.key.low, item.length - cut_bytes);
    if (garbles) sending.bytes[100] ^= std::byte{1};
    const auto length = static_cast<std::uint32_t>(sending.bytes.size());
    std::vector<std::byte> frame;
    wire::write_frame(frame, head, wire::Data{{{item.tag, ItemStatus::ok, length}}});
    const Segment segments[] = {{sending.bytes.data(), sending.bytes.size()}};
    fabric_->send(to, frame, segments, sending.done);
  }

  Loop loop_;
  std::unique_ptr<Fabric> fabric_;
  std::list<Sending> sendings_;
};

class CopyServiceTest : public NodeWorld {
 protected:
  ~CopyServiceTest() override { stop_node(); }

  static wire::CopyItem item(std::uint64_t key) {
    wire::CopyItem made;
    made.copy = CopyId{key + 1000};
    made.meta = meta_of(key);
    made.meta.intent = wire::StoreIntent::replica;
    made.at = {SlotId{static_cast<std::uint32_t>(key) * 16}, Generation{key}};
    made.length = kSize;
    made.checksum = checksum(content_of(key, kSize));
    return made;
  }
  static wire::CopyBlocks order(const std::vector<std::uint64_t>& keys) {
    wire::CopyBlocks made;
    made.source = NodeId{5};
    made.address = "source";
    for (const std::uint64_t key : keys) made.items.push_back(item(key));
    return made;
  }
  void send(const std::vector<std::uint64_t>& keys) { shard.send_copy(order(keys), shard.epoch); }
  /// What became of the copy of `key`.
  std::optional<ItemStatus> outcome(std::uint64_t key) {
    const auto found = shard.copied.find(key + 1000);
    return found == shard.copied.end() ? std::nullopt : std::optional(found->second);
  }
  ItemStatus copy(std::uint64_t key) {
    send({key});
    EXPECT_TRUE(run_until([&] { return outcome(key).has_value(); }, 2'000'000));
    return outcome(key).value_or(ItemStatus::refused);
  }

  FakeSource source{network, clock};
};

TEST_F(CopyServiceTest, WhatIsOrderedIsFetchedSealedPublishedAndTold) {
  start();
  EXPECT_EQ(copy(1), ItemStatus::ok);
  ASSERT_TRUE(shard.held.contains(1));
  EXPECT_EQ(shard.held.at(1).meta.intent, wire::StoreIntent::replica);
  EXPECT_EQ(fetch(shard.held.at(1)), ItemStatus::ok);
  EXPECT_EQ(client.bytes[1], content_of(1, kSize));
  ASSERT_EQ(source.fetches.size(), 1u);
  EXPECT_EQ(source.fetches[0].proof.epoch, shard.epoch);
  EXPECT_EQ(source.fetches[0].items.at(0).generation, Generation{1});
  EXPECT_EQ(node->service().status().copied_blocks, 1u);
}

TEST_F(CopyServiceTest, ManyCopiesComeOverOneConnection) {
  start();
  for (std::uint64_t key = 1; key <= 30; key += 3) send({key, key + 1, key + 2});
  ASSERT_TRUE(run_until([&] { return shard.copied.size() == 30; }));
  for (std::uint64_t key = 1; key <= 30; ++key) EXPECT_EQ(outcome(key), ItemStatus::ok);
  EXPECT_EQ(source.peers.size(), 1u);
}

TEST_F(CopyServiceTest, AnOrderThatComesAgainIsObeyedOnce) {
  start();
  for (int i = 0; i < 3; ++i) send({1});
  EXPECT_EQ(copy(1), ItemStatus::ok);
  send({1});
  run_for(seconds(2));
  EXPECT_EQ(source.fetches.size(), 1u);
  EXPECT_EQ(shard.copy_words, 1);
}

TEST_F(CopyServiceTest, TheEndIsToldUntilItIsHeard) {
  start();
  shard.deaf_copies = 3;
  EXPECT_EQ(copy(1), ItemStatus::ok);
  EXPECT_EQ(shard.copy_words, 4);
}

TEST_F(CopyServiceTest, AnOrderOfAnotherEpochOrLifeIsRefused) {
  start();
  shard.send_copy(order({1}), Epoch{shard.epoch.value - 1});
  shard.send_copy(order({2}), Epoch{shard.epoch.value + 1});
  shard.incarnation.value += 1;
  shard.send_copy(order({3}), shard.epoch);
  shard.incarnation.value -= 1;
  EXPECT_EQ(copy(4), ItemStatus::ok);
  EXPECT_EQ(shard.copied.size(), 1u);
  EXPECT_EQ(source.fetches.size(), 1u);
}

TEST_F(CopyServiceTest, WhatIsHereAlreadyIsADuplicate) {
  start();
  ASSERT_EQ(store(1, kSize), ItemStatus::ok);
  EXPECT_EQ(copy(1), ItemStatus::duplicate);
  EXPECT_TRUE(source.fetches.empty());
}

TEST_F(CopyServiceTest, WrongBytesAreNotKeptAndTheSourceIsTold) {
  start();
  const std::uint64_t free_bytes = node->service().status().free_bytes;
  source.garbles = true;
  EXPECT_EQ(copy(1), ItemStatus::corrupt);
  EXPECT_FALSE(shard.held.contains(1));
  EXPECT_TRUE(run_until([&] { return source.suspicions == 1; }));
  EXPECT_EQ(node->service().status().free_bytes, free_bytes);
}

TEST_F(CopyServiceTest, WhatTheSourceDoesNotHaveFailsAtOnce) {
  start();
  source.status = ItemStatus::stale;
  EXPECT_EQ(copy(1), ItemStatus::stale);
  source.status = ItemStatus::ok;
  source.refuses = true;
  EXPECT_EQ(copy(2), ItemStatus::unavailable);
}

TEST_F(CopyServiceTest, ASourceThatCannotBeReachedFailsSoon) {
  start();
  network.partition("node", "source", true);
  const TimePoint before = clock.now();
  EXPECT_EQ(copy(1), ItemStatus::unavailable);
  EXPECT_LE(clock.now() - before, seconds(3));
  network.partition("node", "source", false);
  EXPECT_EQ(copy(2), ItemStatus::ok);
}

TEST_F(CopyServiceTest, AFetchThatGotLostIsSentAgain) {
  start();
  source.deaf = 1;
  EXPECT_EQ(copy(1), ItemStatus::ok);
  EXPECT_EQ(source.fetches.size(), 2u);
}

TEST_F(CopyServiceTest, ASourceThatSaysNothingIsGivenUp) {
  start();
  source.deaf = 1000;
  const TimePoint before = clock.now();
  EXPECT_EQ(copy(1), ItemStatus::unavailable);
  EXPECT_LE(clock.now() - before, CopyService::kPatience + seconds(1));
  EXPECT_TRUE(run_until([&] { return source.cancels == 1; }));
}

TEST_F(CopyServiceTest, ALengthThatWasNotAskedForIsDropped) {
  start();
  source.cut_bytes = 8;
  EXPECT_EQ(copy(1), ItemStatus::unavailable);
  EXPECT_FALSE(shard.held.contains(1));
}

TEST_F(CopyServiceTest, ALostConnectionFailsWhatWasComingAndTheNextOneIsNew) {
  start();
  source.deaf = 1;
  send({1});
  ASSERT_TRUE(run_until([&] { return source.fetches.size() == 1; }));
  network.reset_connections("node", "source");
  ASSERT_TRUE(run_until([&] { return outcome(1).has_value(); }));
  EXPECT_EQ(outcome(1), ItemStatus::unavailable);
  EXPECT_EQ(copy(2), ItemStatus::ok);
}

TEST_F(CopyServiceTest, ACopyTakesNoRoomThatStoresNeed) {
  start();
  std::uint64_t key = 1;
  while (copy(key) == ItemStatus::ok && key < 1000) ++key;
  EXPECT_EQ(outcome(key), ItemStatus::full);
  EXPECT_TRUE(shard.asked.empty());  // nothing had to go
  EXPECT_EQ(store(2000, kSize), ItemStatus::ok);
}

TEST_F(CopyServiceTest, WhatTheShardDoesNotWantAnyMoreIsFree) {
  start();
  const std::uint64_t free_bytes = node->service().status().free_bytes;
  shard.verdicts[1] = ItemStatus::old_era;
  EXPECT_EQ(copy(1), ItemStatus::old_era);
  EXPECT_EQ(node->service().status().free_bytes, free_bytes);
}

TEST_F(CopyServiceTest, ANewConnectionToTheShardForgetsTheOldOrders) {
  start();
  EXPECT_EQ(copy(1), ItemStatus::ok);
  network.reset_connections("node", "shard");
  ASSERT_TRUE(run_until([&] { return shard.reports == 2; }));
  shard.copied.clear();
  EXPECT_EQ(copy(1), ItemStatus::duplicate);
}

TEST_F(CopyServiceTest, StopsUnderCopies) {
  start();
  source.deaf = 1000;
  send({1, 2, 3});
  ASSERT_TRUE(run_until([&] { return source.fetches.size() == 1; }));
  stop_node();
}

}  // namespace
}  // namespace membrain::node_test
