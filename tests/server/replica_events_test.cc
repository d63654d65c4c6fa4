// Replicas that come, go and are copied in any order.
#include <gtest/gtest.h>

#include <random>
#include <utility>
#include <vector>

#include "tests/server/replica_fixture.h"

namespace membrain::server_test {
namespace {

TEST_F(ReplicaTest, RandomEventsNeverBreakWhatMustHold) {
  std::mt19937 random(7);
  copies_.hot_lookups = 20;
  begin({2, wire::ZoneRule::any});
  const auto draw = [&](std::uint32_t below) {
    return static_cast<std::uint32_t>(random() % below);
  };
  std::vector<wire::CopyBlocks> open_orders;
  for (int step = 0; step < 20'000; ++step) {
    const std::uint32_t node = 1 + draw(3);
    switch (draw(10)) {
      case 0:
      case 1:
      case 2:
        static_cast<void>(publish(entry(1 + draw(50)), node));
        break;
      case 3:
        for (const wire::SlotRef& at : need(1 + draw(3), node)) freed({at}, node);
        break;
      case 4:
        if (draw(20) == 0) join(node, incarnations_[node] + 1);
        break;
      case 5: {
        if (draw(50) != 0) break;
        const auto number = 1 + draw(50);
        static_cast<void>(shard_->corrupt({NodeId{node}, life(node), slot(number)}, now_));
        break;
      }
      case 6:
        nodes_of(1 + draw(10));
        break;
      default:
        for (wire::CopyBlocks& order : orders(milliseconds(50))) open_orders.push_back(order);
        for (const std::uint32_t one : {1U, 2U, 3U}) beat(one);
        ASSERT_TRUE(shard_->heartbeat(session_, now_));
        if (open_orders.empty()) break;
        std::swap(open_orders.front(), open_orders.back());
        if (draw(4) == 0) {
          const auto which = draw(2) == 0 ? ItemStatus::full : ItemStatus::stale;
          const auto& order = open_orders.back();
          if (order.incarnation == Incarnation{incarnations_[order.node.value]}) end(order, which);
        } else if (open_orders.back().incarnation ==
                   Incarnation{incarnations_[open_orders.back().node.value]}) {
          const wire::CopyBlocks order = open_orders.back();
          for (const wire::CopyItem& item : order.items) {
            wire::SlotEntry made = entry(1);
            made.meta = item.meta;
            made.slot = SlotId{next_slot_};
            made.generation = Generation{next_slot_++};
            static_cast<void>(publish(made, order.node.value));
          }
          end(order, ItemStatus::ok);
        }
        open_orders.pop_back();
    }
    if (step % 16 == 0) {
      ASSERT_EQ(shard_->check_invariants(), "") << step;
    }
  }
  EXPECT_GT(shard_->copies().totals().copied, 100u);
}

}  // namespace
}  // namespace membrain::server_test
