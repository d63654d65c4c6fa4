// What clients hold, and what must become of it, also from term to term.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "tests/sim/cluster.h"
#include "tests/sim/engine.h"
#include "tests/sim/ledger.h"

namespace membrain::sim {

/// S2 as clients see it, also of a leader that was deposed and cannot know it yet. A block that a
/// client holds, and that its shard's leader has pinned for it, stays where the client was told
/// that it is: while the leader keeps the pin, and in the next term until sessions had time to come
/// back, whether it was cleared or not. A pin ends before its holder releases it only when a
/// session has expired, or its client came back. A client that has come back in a later term, and
/// goes on with other things, has said what it holds.
class Holdings {
 public:
  Holdings(Cluster& cluster, Ledger& ledger) noexcept : cluster_(cluster), ledger_(ledger) {}
  /// Looks at all that is held of this shard's keys.
  void check(const Cluster::Led& led, std::span<const std::shared_ptr<Engine>> engines);

 private:
  /// Which replicas of one held block are where the client was told, and this shard knows them; and
  /// which are not there. Neither: its node's life is over, or the shard has not heard of it yet,
  /// or has condemned it.
  struct Places {
    ReplicaSet there;
    ReplicaSet lost;
  };
  [[nodiscard]] Places places_of(const Shard& shard, const Match::State& match,
                                 std::size_t block) const;
  /// How the shard stands to the lookup that a block was found by.
  struct Surroundings {
    bool pinned = false;   ///< it has pinned something for it
    bool calm = false;     ///< no session has expired since the last look
    bool cleared = false;  ///< its namespace has another era
  };
  void check_block(const Cluster::Led& led, const Engine& engine, HeldMatch& held,
                   std::size_t block, const Surroundings& now);

  Cluster& cluster_;
  Ledger& ledger_;
  std::map<Epoch, std::uint64_t> expired_;  ///< sessions of each term, when it was last seen
};

/// When everything is quiet, the catalogs of all shards are what the nodes have: each sealed slot
/// is in one of them, nothing else is, and no slot waits to be freed. Empty, or what differs.
[[nodiscard]] std::string catalog_differs(Cluster& cluster);
/// A shard's answers still name this node.
[[nodiscard]] bool in_answers(const Cluster& cluster, NodeId node);

}  // namespace membrain::sim
