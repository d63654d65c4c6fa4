// A shard with nodes that obey its orders to copy, as a test wants.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/server/shard_fixture.h"

namespace membrain::server_test {

class ReplicaTest : public ShardTest {
 protected:
  ReplicaTest() { begin({2, wire::ZoneRule::any}); }

  void begin(ReplicaRule rule) {
    replicas_ = rule;
    tenure_ = {};  // a first term: no grace
    start();
    session_ = open();
    for (const std::uint32_t node : {1U, 2U, 3U}) join(node);
  }
  void join(std::uint32_t node, std::uint32_t life = 1, const std::string& zone = "",
            std::vector<wire::SlotEntry> report = {}) {
    wire::RegisterNode request;
    request.node = NodeId{node};
    request.incarnation = Incarnation{life};
    request.address = "node" + std::to_string(node);
    request.host = "host" + std::to_string(node);
    request.zone = zone;
    request.capacity_bytes = 1 << 30;
    ASSERT_TRUE(shard_->register_node(request, now_));
    incarnations_[node] = life;
    beat(node);
    report_all(node, std::move(report));
  }
  void beat(std::uint32_t node, std::uint64_t free_bytes = 1 << 20) {
    ASSERT_TRUE(shard_->node_heartbeat({NodeId{node}, life(node), free_bytes, 0}, now_));
  }
  /// Time passes while these nodes live.
  void pass_with(Duration time, std::vector<std::uint32_t> nodes, std::uint64_t room = 1 << 20) {
    for (Duration passed{}; passed < time; passed += milliseconds(250)) {
      now_ += milliseconds(250);
      for (const std::uint32_t node : nodes) beat(node, room);
      ASSERT_TRUE(shard_->heartbeat(session_, now_));
      shard_->tick(now_);
    }
  }
  std::vector<wire::CopyBlocks> orders(Duration later = milliseconds(250)) {
    now_ += later;
    EXPECT_TRUE(shard_->heartbeat(session_, now_));
    shard_->tick(now_);
    return shard_->copy_orders(now_);
  }
  /// The only copy that is ordered now.
  std::optional<wire::CopyBlocks> one_order(Duration later = milliseconds(250)) {
    std::vector<wire::CopyBlocks> all = orders(later);
    EXPECT_EQ(all.size(), 1u);
    if (all.size() != 1) return std::nullopt;
    EXPECT_EQ(all[0].items.size(), 1u);
    return all[0];
  }
  void end(const wire::CopyBlocks& order, ItemStatus status) {
    wire::CopiesEnded ended{order.node, order.incarnation, {}};
    for (const wire::CopyItem& item : order.items) ended.items.push_back({item.copy, status});
    ASSERT_TRUE(shard_->copies_ended(ended, now_));
  }
  /// What a node does that obeys: publishes, then says so.
  void obey(const wire::CopyBlocks& order) {
    for (const wire::CopyItem& item : order.items) {
      wire::SlotEntry made;
      made.meta = item.meta;
      made.slot = SlotId{next_slot_};
      made.generation = Generation{next_slot_++};
      made.length = item.length;
      made.slot_bytes = kSlotBytes;
      made.checksum = item.checksum;
      EXPECT_EQ(publish(made, order.node.value), ItemStatus::ok);
    }
    end(order, ItemStatus::ok);
  }
  /// All orders are obeyed until there are none; how many blocks were copied.
  std::size_t settle(std::size_t rounds = 1000) {
    std::size_t copied = 0;
    for (std::size_t i = 0; i < rounds; ++i) {
      const std::vector<wire::CopyBlocks> all = orders(milliseconds(0));
      if (all.empty()) break;
      for (const wire::CopyBlocks& order : all) obey(order), copied += order.items.size();
    }
    return copied;
  }
  [[nodiscard]] std::size_t degraded() const { return shard_->copies().degraded(); }
  std::set<std::uint32_t> nodes_of(std::uint64_t number) {
    std::set<std::uint32_t> nodes;
    const wire::FoundSection found = look(session_, next_lookup_, {number});
    for (const auto& at : found.locations) EXPECT_TRUE(nodes.insert(at.at.node.value).second);
    unpin(session_, next_lookup_++);
    return nodes;
  }

  SessionId session_;
  std::uint32_t next_slot_ = 10'000;
  std::uint64_t next_lookup_ = 1000;
};

}  // namespace membrain::server_test
