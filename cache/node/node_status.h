// What a node tells people about itself.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/ids.h"
#include "protocol/messages.h"

namespace membrain {

inline constexpr std::size_t kStatusCount = static_cast<std::size_t>(wire::kLastItemStatus) + 1;

/// A node at one moment; figures of different fields may be a few operations apart.
struct NodeStatus {
  NodeId node;
  Incarnation incarnation;
  Epoch epoch;                         ///< the highest of all shards, 0 before the first one
  bool connected = false;              ///< registered with every shard, reported and publishing
  std::uint64_t shards = 0;            ///< of the cluster, 0 before their map is known
  std::uint64_t connected_shards = 0;  ///< registered with, reported to and published to
  std::uint64_t left_shards = 0;       ///< `leave`: of which nothing is here alone any more
  std::uint64_t alone_blocks = 0;      ///< `leave`: parts that are, as far as shards have counted
  std::uint64_t capacity_bytes = 0;
  std::uint64_t used_bytes = 0;  ///< of slots in use
  std::uint64_t free_bytes = 0;
  std::uint64_t used_slots = 0;
  std::uint64_t stores = 0;     ///< Store requests
  std::uint64_t fetches = 0;    ///< Fetch requests
  std::uint64_t bytes_in = 0;   ///< received into slots
  std::uint64_t bytes_out = 0;  ///< sent from slots
  std::uint64_t freed = 0;      ///< slots freed because a shard said so
  /// FreeSlots refused: of another epoch, node or incarnation; and slots of another shard in them
  std::uint64_t fenced_frees = 0;
  std::uint64_t copied_blocks = 0;  ///< from other nodes, because a shard wanted replicas here
  std::uint64_t corrupt_slots = 0;  ///< found by a reader's suspicion or after a restart
  std::array<std::uint64_t, kStatusCount> store_items{};  ///< by ItemStatus
  std::array<std::uint64_t, kStatusCount> fetch_items{};  ///< by ItemStatus

  /// Every shard has said that the node may go.
  [[nodiscard]] bool drained() const noexcept { return shards > 0 && left_shards == shards; }
};

/// The same, counted while the node runs: each field by one loop but `fenced_frees` (both), read by
/// any thread.
struct NodeCounters {
  using Counter = std::atomic<std::uint64_t>;
  Counter epoch{0}, shards{0}, connected{0}, fenced_frees{0}, left{0}, alone{0};  // control loop
  Counter used_bytes{0}, free_bytes{0}, used_slots{0};
  Counter stores{0}, fetches{0}, bytes_in{0}, bytes_out{0}, freed{0}, corrupt_slots{0},
      copied_blocks{0};
  std::array<Counter, kStatusCount> store_items{};
  std::array<Counter, kStatusCount> fetch_items{};

  static void add(Counter& counter, std::uint64_t count = 1) noexcept {
    counter.fetch_add(count, std::memory_order_relaxed);
  }
};

}  // namespace membrain
