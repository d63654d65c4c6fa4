// ReplicaWatch: which blocks have too few replicas, and the copies that mend it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "protocol/copy_messages.h"
#include "server/byte_budget.h"
#include "server/catalog.h"
#include "server/copy_choice.h"
#include "server/heat.h"
#include "server/leavers.h"
#include "server/namespaces.h"
#include "server/nodes.h"
#include "server/replica_rule.h"

namespace membrain {

/// What has happened since the start.
struct CopyTotals {
  std::uint64_t copied = 0;  ///< block parts
  std::uint64_t copied_bytes = 0;
  std::uint64_t hot = 0;       ///< of them for their heat
  std::uint64_t failed = 0;    ///< copies that did not come to an end; most are begun again
  std::uint64_t given_up = 0;  ///< blocks that were tried kMostAttempts times
};

/// Is told of everything that changes a block's replicas, and keeps count of blocks that have fewer
/// than their namespace wants. It orders copies: the node that is to have one fetches it from a
/// node that has it, and publishes it like any other block; what became of it the node tells.
///
/// A block that the policy let a replica go of is `thin`: what is left is enough, so a full cluster
/// does not copy for ever what it evicts. A replica that is lost, or corrupt, ends that.
///
/// A replica on a node that leaves does not count. What nobody else keeps is copied then, thin or
/// not, and though its namespace wants one replica only.
///
/// Bounds   Copies under way (in all and per node), bytes per second, blocks that wait. A block
///          costs nothing but four bits of its record, unless it waits (8 to 48 bytes): what does
///          not fit into the queue is found by walking over the catalog, kSweepEntries a tick.
/// Time     A parameter. Threads: one.
class ReplicaWatch {
 public:
  static constexpr std::size_t kMostCopies = 256;     ///< under way
  static constexpr std::size_t kMostQueued = 65536;   ///< blocks
  static constexpr std::size_t kMostWaiting = 16384;  ///< blocks that failed, or found no room
  static constexpr std::size_t kMostHot = 256;        ///< hot blocks that wait
  static constexpr std::size_t kMostTries = 64;      ///< blocks that one `orders` may begin to copy
  static constexpr std::size_t kMostSkipped = 4096;  ///< that do not wait any more, for each
  static constexpr std::size_t kSweepEntries = 4096;                       ///< in one tick
  static constexpr std::uint32_t kMostAttempts = 6;                        ///< that fail in a row
  static constexpr Duration kFirstDelay = std::chrono::milliseconds(500);  ///< doubles
  static constexpr Duration kFullDelay = std::chrono::seconds(2);
  static constexpr Duration kCopyTime = std::chrono::seconds(30);  ///< of one copy, for the node
  static constexpr Duration kGraceTime = std::chrono::seconds(5);  ///< until it counts as failed
  static constexpr Duration kResend = std::chrono::seconds(1);
  static constexpr Duration kSweepPause = std::chrono::seconds(10);
  /// Nodes that have registered are given so long to report what they hold, before it is copied.
  static constexpr Duration kReportPatience = std::chrono::seconds(30);
  static constexpr Duration kFirstDoubt = std::chrono::seconds(10);  ///< doubles
  static constexpr std::uint32_t kMostDoubts = 7;

  ReplicaWatch(Catalog& catalog, const Nodes& nodes, const Namespaces& spaces, CopyLimits limits,
               TimePoint start);

  // What changes. `look` after every change of an entry's replicas, before `settle`.

  void look(Ref entry);
  /// A replica is gone, or corrupt, and nobody wanted that.
  void lost(Ref entry);
  /// The policy is about to let a replica of it go.
  void evicting(Ref entry) noexcept { catalog_.entry(entry).thin = true; }
  /// These were looked up, and are there.
  void touched(std::span<const Ref> entries, TimePoint now);
  void node_registered(NodeIndex node, TimePoint now);
  /// What it was to copy it does not copy any more.
  void node_gone(NodeIndex node, TimePoint now);
  void node_reported();
  /// Bytes of it were corrupt: for a while, and every time for longer, it gets no copies.
  void node_in_doubt(NodeIndex node, TimePoint now);
  /// A node begins to leave, or does not any more.
  void leavers_changed();
  /// A namespace wants another number of replicas, or was cleared.
  void recount();
  void ended(NodeIndex node, const wire::CopiesEnded& message, TimePoint now);
  /// As many of the cluster's shards copy: what is allowed is for all of them together.
  void share_budget(std::size_t shards) noexcept {
    budget_.set_rate(limits_.bytes_per_second / std::max<std::size_t>(shards, 1));
  }

  // What is to be done.

  void tick(TimePoint now);
  /// `tick` has more to look at: soon again, please.
  [[nodiscard]] bool sweeping() const noexcept { return recounting() || leavers_.walking(); }
  /// New orders, and those that were not answered in time; without proof and epoch.
  [[nodiscard]] std::vector<wire::CopyBlocks> orders(TimePoint now);

  [[nodiscard]] bool anyone_leaves() const noexcept { return leavers_.any(); }
  /// As Leavers::alone.
  [[nodiscard]] std::uint64_t alone(NodeIndex node) const noexcept { return leavers_.alone(node); }

  // For people and tests.

  [[nodiscard]] std::size_t degraded() const noexcept { return degraded_; }
  [[nodiscard]] std::size_t under_way() const noexcept { return copies_.size(); }
  [[nodiscard]] const CopyTotals& totals() const noexcept { return totals_; }
  /// Empty if all agrees, else what does not. Cost: a walk over everything.
  [[nodiscard]] const char* check_invariants() const;

 private:
  struct Waiting {
    Ref entry = kNoRef;
    std::uint32_t attempts = 0;  ///< that have failed
    bool hot = false;
  };
  struct Copy {
    Waiting of;
    BlockName name;
    NodeIndex from = 0;
    NodeIndex to = 0;
    wire::CopyItem item;
    TimePoint deadline;
    TimePoint told{};
  };
  using Copies = std::unordered_map<CopyId, Copy>;

  [[nodiscard]] std::size_t staying(const Entry& entry) const noexcept {
    return kept(catalog_, nodes_, entry).staying;
  }
  [[nodiscard]] bool over(const Entry& entry) const noexcept {
    return entry.era != spaces_[entry.space].era;
  }
  [[nodiscard]] bool is_degraded(const Entry& entry) const noexcept;
  [[nodiscard]] std::size_t wanted(const Waiting& block, TimePoint now) const noexcept;
  [[nodiscard]] bool recounting() const noexcept { return sweeping_ && !crowded(); }
  [[nodiscard]] bool crowded() const noexcept { return queue_.size() >= kMostQueued / 2; }
  [[nodiscard]] bool all_reported(TimePoint now) const noexcept;
  void enqueue(Waiting block);
  void wait(Waiting block, TimePoint until);
  void sweep();
  bool take(Waiting& block);
  void begin_some(TimePoint now);
  [[nodiscard]] std::vector<wire::CopyBlocks> untold(TimePoint now);
  Choice begin(const Waiting& block, TimePoint now);
  void order(const Waiting& block, Ref source, NodeIndex target, TimePoint now);
  void end(Copies::iterator copy, wire::ItemStatus status, TimePoint now);
  void failed(Waiting block, TimePoint now);
  [[nodiscard]] bool arrived(const Copy& copy) const noexcept;
  void expire(TimePoint now);
  NodeCopies& of(NodeIndex node);

  Catalog& catalog_;
  const Nodes& nodes_;
  const Namespaces& spaces_;
  CopyLimits limits_;
  ByteBudget budget_;
  Heat heat_;
  Leavers leavers_;
  std::vector<NodeCopies> of_node_;
  std::size_t degraded_ = 0;
  std::deque<Waiting> queue_;
  std::deque<Waiting> hot_;
  std::multimap<TimePoint, Waiting> waiting_;
  Copies copies_;
  std::uint64_t last_copy_ = 0;
  bool missed_ = false;  ///< degraded blocks are in no queue
  bool sweeping_ = false;
  Ref sweep_next_ = 0;
  TimePoint next_sweep_;
  CopyTotals totals_;
};

}  // namespace membrain
