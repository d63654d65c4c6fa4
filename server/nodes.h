// The nodes that this shard knows. Pure: time is a parameter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "protocol/messages.h"
#include "server/condemned.h"
#include "server/records.h"

namespace membrain {

/// One node, in its present or last registration.
struct Node {
  NodeId id;
  Incarnation incarnation;
  std::string address;
  std::string host;
  std::string door;
  std::string zone;
  Tier tier = Tier::host;
  std::uint64_t capacity_bytes = 0;
  std::uint64_t free_bytes = 0;
  std::uint64_t moved_bytes = 0;  ///< as of its last heartbeat
  std::uint64_t load_bytes = 0;   ///< moved in a second, of late
  TimePoint moved_at{};
  TimePoint heard;
  bool registered = false;         ///< false: lost; nothing is kept of it
  bool connected = false;          ///< false while it is registered: it may come back in time
  bool leaving = false;            ///< until it registers anew: it gets nothing any more
  bool reported = false;           ///< its report is complete: slots of it may be freed
  std::uint32_t next_portion = 0;  ///< of its report
  Condemned condemned;

  void moved(std::uint64_t bytes, TimePoint now) noexcept;
  [[nodiscard]] bool is(Incarnation life) const noexcept {
    return registered && incarnation == life;
  }
};

/// Bound: wire::kMaxNodes; of those that are lost the longest silent one makes room.
class Nodes {
 public:
  explicit Nodes(Duration ttl) noexcept : ttl_(ttl) {}

  /// The node's place, new or old; kNoNode when every place is taken by a living one.
  static constexpr NodeIndex kNoNode = 0xffff;
  NodeIndex find_or_add(NodeId id);
  [[nodiscard]] NodeIndex find(NodeId id) const noexcept;
  [[nodiscard]] Node& operator[](NodeIndex node) noexcept { return nodes_[node]; }
  [[nodiscard]] const Node& operator[](NodeIndex node) const noexcept { return nodes_[node]; }
  [[nodiscard]] NodeIndex end() const noexcept { return static_cast<NodeIndex>(nodes_.size()); }
  [[nodiscard]] std::size_t registered_count() const noexcept;

  /// Registered nodes that were silent for longer than the time to live.
  [[nodiscard]] std::vector<NodeIndex> lost(TimePoint now) const;
  void renew_all(TimePoint now) noexcept;
  /// As clients are told, within `max_bytes` of a frame; the living first.
  [[nodiscard]] wire::NodeList list(std::size_t max_bytes) const;

 private:
  Duration ttl_;
  std::deque<Node> nodes_;  ///< a place never moves
  std::unordered_map<NodeId, NodeIndex> by_id_;
};

}  // namespace membrain
