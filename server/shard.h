// Shard: what exists, who pins it, and what goes. Decides everything, does no I/O.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/mac.h"
#include "membrain/result.h"
#include "protocol/messages.h"
#include "server/catalog.h"
#include "server/lru_leaf_first.h"
#include "server/namespaces.h"
#include "server/nodes.h"
#include "server/replica_rule.h"
#include "server/replica_watch.h"
#include "server/sessions.h"
#include "server/term.h"

namespace membrain {

struct ShardParams {
  Term term;
  Digest grant_key{};  ///< of this start; nodes check session proofs with it
  Duration session_ttl = std::chrono::seconds(10);
  Duration node_ttl = std::chrono::seconds(5);
  std::size_t expected_blocks = 1 << 16;
  TimePoint start;
  std::uint64_t hash_seed = 1;  ///< random: keys that collide cannot be chosen
  SessionLimits sessions;
  ReplicaRule replicas;  ///< of namespaces whose clients ask for nothing else
  CopyLimits copies;
};

/// What has happened since the start.
struct ShardTotals {
  std::uint64_t lookups = 0;
  std::uint64_t blocks_looked_up = 0;
  std::uint64_t blocks_hit = 0;  ///< within the prefix, or for `all` each one found
  std::uint64_t published = 0;
  std::uint64_t duplicates = 0;
  std::uint64_t evicted = 0;
  std::uint64_t corrupt = 0;
  std::uint64_t cleared = 0;  ///< replicas of eras that are over
  std::uint64_t sessions_expired = 0;
  std::uint64_t nodes_lost = 0;
};

/// One shard's state, and a method for each message. Whoever calls has checked the proofs and that
/// the session or node in a message is the one of the connection it came on.
///
/// Every method may be called again with the same message: nothing changes, and the answer is good.
///
/// Time     A parameter. `tick` lets it pass.
/// Threads  One.
/// Cost     A lookup of 512 blocks takes tens of microseconds. Losing a node, or its coming back,
///          walks over every replica.
class Shard {
 public:
  static constexpr std::size_t kSweepEntries = 4096;  ///< looked at in one `tick` after a Clear
  /// What nodes show to each other when they copy: no client's session, by 1 in 2^64.
  static constexpr SessionId kCopyingSession{~std::uint64_t{0}};
  static constexpr std::uint32_t kMaxGrantMs = 3'600'000;

  explicit Shard(ShardParams params);
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  // Clients.

  /// `fresh` is the new session's id: random. A session that resumes another may, until its first
  /// `heartbeat` or `list_nodes`, pin blocks that are not there (yet): it had pinned them before.
  Result<wire::Welcome> hello(const wire::Hello& hello, SessionId fresh, TimePoint now);
  Result<wire::Welcome> welcome(SessionId session, TimePoint now);
  Result<wire::NamespaceOpened> open(SessionId session, const wire::OpenNamespace& request,
                                     TimePoint now);
  Result<wire::Alive> heartbeat(SessionId session, TimePoint now);
  Result<wire::Found> lookup(const wire::Lookup& request, TimePoint now);
  Result<wire::Unpinned> unpin(const wire::Unpin& request, TimePoint now);
  Result<wire::Granted> grant(const wire::Grant& request, TimePoint now);
  /// The era with which a Clear is to be answered. If it has not begun, whoever calls keeps it for
  /// later terms first, and then says `begin_era`.
  Result<Era> era_after_clear(const wire::Clear& request, TimePoint now);
  void begin_era(NamespaceId space, Era era);
  Result<wire::ProbedParts> probe_parts(const wire::ProbeParts& request, TimePoint now);
  Result<wire::NodeList> list_nodes(SessionId session, TimePoint now);
  Result<wire::StatsReply> stats() const;
  /// The session's connection is gone. What it pins stays for its time to live.
  void disconnected(SessionId session);

  // Nodes.

  /// On a new connection: whatever was held of the node is dropped, its report brings it back.
  Result<wire::Accepted> register_node(const wire::RegisterNode& request, TimePoint now);
  /// What register_node answered, for a repeated request.
  [[nodiscard]] wire::Accepted accepted() const noexcept;
  [[nodiscard]] bool registered(NodeId node, Incarnation incarnation) const noexcept;
  Result<wire::Published> publish(const wire::Publish& request, TimePoint now);
  Result<wire::FreeSlots> need_slots(const wire::NeedSlots& request, TimePoint now);
  Result<wire::FreedNoted> freed(const wire::Freed& request, TimePoint now);
  Result<wire::Reported> report(const wire::Report& request, TimePoint now);
  Result<wire::CorruptNoted> corrupt(const wire::Corrupt& request, TimePoint now);
  Result<wire::NodeAlive> node_heartbeat(const wire::NodeHeartbeat& request, TimePoint now);
  Result<wire::CopiesNoted> copies_ended(const wire::CopiesEnded& request, TimePoint now);
  /// The node gets no new blocks; those that nobody else keeps are copied to others.
  Result<wire::Leaving> leave(const wire::Leave& request, TimePoint now);
  void disconnected(NodeId node);

  /// Slots to be freed that their nodes have not been told of. One message for each node.
  [[nodiscard]] std::vector<wire::FreeSlots> untold_frees(TimePoint now);
  /// What this node was told and has not answered, with whatever is new.
  [[nodiscard]] wire::FreeSlots repeated_frees(NodeId node, TimePoint now);

  /// Blocks that nodes are to copy from each other, new orders and repeated ones.
  [[nodiscard]] std::vector<wire::CopyBlocks> copy_orders(TimePoint now);

  /// Lets time pass, after a turn that has taken in all messages that had come: silent sessions and
  /// nodes go (not after a gap in which nobody listened), and a bounded part of what was cleared.
  void tick(TimePoint now);
  /// `tick` has more to clear: soon again, please.
  [[nodiscard]] bool sweeping() const noexcept {
    return (sweeping_ && !in_grace(last_tick_)) || copies_.sweeping();
  }

  /// After a restart: nothing is freed before sessions had time to come back.
  [[nodiscard]] bool in_grace(TimePoint now) const noexcept { return now < free_after_; }

  // For people, tests and the simulator.

  [[nodiscard]] const ShardParams& params() const noexcept { return params_; }
  [[nodiscard]] Epoch epoch() const noexcept { return params_.term.epoch; }
  [[nodiscard]] const ShardTotals& totals() const noexcept { return totals_; }
  [[nodiscard]] const Catalog& catalog() const noexcept { return catalog_; }
  [[nodiscard]] const Namespaces& namespaces() const noexcept { return spaces_; }
  [[nodiscard]] const Nodes& nodes() const noexcept { return nodes_; }
  [[nodiscard]] const Sessions& sessions() const noexcept { return sessions_; }
  /// Of the copies that the cluster may begin, this one of `shards` begins its share.
  void share_copies(std::size_t shards) noexcept { copies_.share_budget(shards); }
  [[nodiscard]] const ReplicaWatch& copies() const noexcept { return copies_; }
  /// (session, lookup, entry) triples.
  [[nodiscard]] std::size_t pin_count() const noexcept { return pins_; }
  /// `visit(const Location&)` for every replica that a pin holds and an answer may name.
  template <class Visit>
  void for_each_pinned(Visit visit) const;
  /// Empty if everything agrees, else what does not. Cost: a walk over everything.
  [[nodiscard]] std::string check_invariants() const;

 private:
  /// One section of a lookup: what was found of it, by block and part.
  struct Probed {
    SpaceIndex space = kNoSpace;
    std::vector<Ref> refs;              ///< by block, then part; kNoRef: not there
    std::vector<std::uint8_t> present;  ///< by block: all parts have a sound replica
    std::vector<std::uint8_t> pinned;   ///< by block: by this lookup
    std::uint32_t prefix = 0;
  };
  enum class Source : std::uint8_t { publication, report };

  /// Whoever asks goes by a map that is over, or not known here yet.
  static constexpr Error kElsewhere{Errc::stale, 0, "another shard has this key"};
  template <class Items, class Key>
  [[nodiscard]] bool has_all(const Items& items, Key key) const;

  Session* heard(SessionId session, TimePoint now);
  /// A namespace that somebody of the session's tenant has opened.
  [[nodiscard]] Result<SpaceIndex> space_of(const Session& session, NamespaceId id) const;
  void finish_asserting(Session& session);
  void end_session(SessionId id);
  void release(const std::vector<Ref>& entries);
  void release(Ref entry);
  [[nodiscard]] wire::SessionProof proof(SessionId session, LookupId grant,
                                         std::uint64_t expires_ms) const noexcept;

  Result<std::vector<Probed>> probe(const Session& session, const wire::Lookup& request);
  Result<> check_section(const Session& session, const wire::LookupSection& section) const;
  Result<> pin_found(Session& session, const wire::Lookup& request, std::vector<Probed>& probed);
  Result<> assert_pins(Session& session, const wire::Lookup& request, std::vector<Probed>& probed);
  void keep_each_once(std::vector<Ref>& entries);
  Result<> pin_all(Session& session, LookupId lookup, std::vector<Ref> entries,
                   const std::vector<Probed>& probed);
  void mark_pinned(const PinnedLookup& lookup, std::vector<Probed>& probed);
  [[nodiscard]] wire::Found answer(const wire::Lookup& request,
                                   const std::vector<Probed>& probed) const;
  void add_locations(const Probed& section, std::uint16_t parts, std::size_t replicas_each,
                     std::size_t& left, wire::FoundSection& into) const;
  [[nodiscard]] std::size_t stayers_first(std::span<Ref> replicas) const;
  void count_lookup(const wire::Lookup& request, const std::vector<Probed>& probed);

  Result<NodeIndex> heard(NodeId node, Incarnation incarnation, TimePoint now);
  void drop_nodes(std::span<const NodeIndex> nodes, TimePoint now);
  [[nodiscard]] bool may_free(const Node& node, TimePoint now) const noexcept;
  [[nodiscard]] wire::FreeSlots free_slots(const Node& node,
                                           std::vector<wire::SlotRef> slots) const;
  wire::ItemStatus take(NodeIndex node, const wire::SlotEntry& item, Source source, TimePoint now);
  void note_turned_down(NodeIndex node, const wire::SlotEntry& item);
  void drop_uses(NodeIndex node, const wire::SlotRef& until);
  [[nodiscard]] wire::ItemStatus taken_before(NodeIndex node, const wire::SlotEntry& item) const;
  [[nodiscard]] bool enough_without(NodeIndex node, Ref entry, Source source,
                                    wire::StoreIntent intent) const noexcept;
  void adopt(Ref entry, NodeIndex node, const wire::SlotEntry& item);
  void condemn(Ref replica);
  void condemn_and_settle(Ref replica);
  void evict(Ref replica);
  void condemn_candidates(NodeIndex node, const std::vector<wire::SlotRef>& candidates);
  void begin_sweep() noexcept;
  void sweep();
  [[nodiscard]] bool over(const Entry& entry) const noexcept {
    return entry.era != spaces_[entry.space].era;
  }
  [[nodiscard]] Location location(const Replica& replica) const noexcept;

  ShardParams params_;
  TimePoint free_after_;  ///< nothing is freed before: sessions must have had time to come back
  TimePoint last_tick_;
  Records records_;
  LruLeafFirst policy_;
  Catalog catalog_;
  Namespaces spaces_;
  Sessions sessions_;
  Nodes nodes_;
  ReplicaWatch copies_;
  std::size_t pins_ = 0;
  ShardTotals totals_;
  bool untold_ = false;  ///< a slot was condemned since untold_frees
  bool sweeping_ = false;
  Ref sweep_next_ = 0;
  std::vector<BlockName> names_;  ///< of one section, kept for its memory
};

template <class Items, class Key>
bool Shard::has_all(const Items& items, Key key) const {
  const KeyRange range = params_.term.range;
  return std::ranges::all_of(
      items, [&](const BlockKey& one) { return range.has(one); }, key);
}

template <class Visit>
void Shard::for_each_pinned(Visit visit) const {
  for (Ref ref = 0; ref < records_.replicas.end(); ++ref) {
    const Replica& replica = records_.replicas[ref];
    if (!replica.in_use() || !replica.sound) continue;
    if (records_.entries[replica.entry].pins > 0) visit(location(replica));
  }
}

}  // namespace membrain
