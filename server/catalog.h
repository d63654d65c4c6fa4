// Catalog: which blocks exist, where, and what depends on what. The shard's memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "server/eviction_policy.h"
#include "server/records.h"
#include "server/ref_index.h"

namespace membrain {

struct CatalogCounts {
  std::size_t blocks = 0;         ///< entries with a sound replica
  std::size_t replicas = 0;       ///< sound or not
  std::size_t pinned_blocks = 0;  ///< entries with pins, ghosts too
  std::uint64_t bytes = 0;        ///< of all replicas
};

/// Entries and replicas by name and by slot. It keeps the counts of children and pins, tells the
/// policy who may go, and frees entries that nothing holds any more. It knows no session, no node
/// and no time.
///
/// Ownership  The records and the policy are the caller's and outlive it.
/// Cost       114 to 118 bytes for a block with one replica, both indices included; up to 128 while
///            an index grows beyond what was expected.
class Catalog {
 public:
  static constexpr std::size_t kProbeBatch = 16;  ///< names whose memory is asked for at once

  /// `seed` keeps others from choosing keys that collide.
  Catalog(Records& records, EvictionPolicy& policy, std::size_t expected_blocks,
          std::uint64_t seed);
  Catalog(const Catalog&) = delete;
  Catalog& operator=(const Catalog&) = delete;

  // Entries.

  [[nodiscard]] Ref find(const BlockName& name) const;
  /// As many answers as names. Memory is prefetched some names before it is looked at.
  void find_all(std::span<const BlockName> names, std::span<Ref> into) const;
  /// The entry of that name; if it is new, a ghost that the caller gives a pin, a replica or a
  /// child before the next `settle`.
  Ref find_or_add(const BlockName& name);
  /// Hangs an entry on `parent`, which becomes a ghost if it is not there. Nothing happens if the
  /// entry hangs on one already, or if depths forbid it.
  void link(Ref entry, const BlockKey& parent);
  [[nodiscard]] Entry& entry(Ref ref) noexcept { return records_.entries[ref]; }
  [[nodiscard]] const Entry& entry(Ref ref) const noexcept { return records_.entries[ref]; }
  /// Frees the entry if nothing holds it, then its parent likewise.
  void settle(Ref entry);

  // Pins.

  void pin(Ref entry);
  /// True if that was the last pin: unsound replicas are to be removed now, then `settle`.
  [[nodiscard]] bool unpin(Ref entry);

  // Replicas.

  struct NewReplica {
    NodeIndex node = 0;
    SlotId slot;
    Generation generation;
    std::uint32_t length = 0;
    std::uint32_t slot_bytes = 0;
    Checksum checksum;
    Tier tier = Tier::host;
  };
  Ref add_replica(Ref entry, const NewReplica& made);
  /// Takes a replica out. The entry is the caller's to `settle`.
  void remove_replica(Ref replica);
  /// It leaves all answers at once.
  void mark_unsound(Ref replica);
  [[nodiscard]] Ref replica_at(NodeIndex node, SlotId slot) const;
  [[nodiscard]] const Replica& replica(Ref ref) const noexcept { return records_.replicas[ref]; }
  /// The first sound replica from `from` on along the entry's chain.
  [[nodiscard]] Ref sound(Ref from) const noexcept;
  [[nodiscard]] bool has_sound(Ref entry) const noexcept {
    return sound(records_.entries[entry].replicas) != kNoRef;
  }
  /// One that nobody takes back: sound, in a node's memory.
  [[nodiscard]] bool has_kept(Ref entry) const noexcept;
  [[nodiscard]] bool has_sound_on(Ref entry, NodeIndex node) const noexcept;
  [[nodiscard]] std::size_t replica_count(Ref entry) const noexcept;
  /// On a node, sound or not.
  [[nodiscard]] std::size_t replicas_of(NodeIndex node) const noexcept {
    return node < by_node_.size() ? by_node_[node] : 0;
  }

  [[nodiscard]] const Records& records() const noexcept { return records_; }
  [[nodiscard]] const CatalogCounts& counts() const noexcept { return counts_; }
  /// Bytes of memory that all of it takes.
  [[nodiscard]] std::size_t bytes() const noexcept;
  /// Empty if all agrees, else what does not. Cost: a walk over everything.
  [[nodiscard]] std::string check_invariants() const;

 private:
  struct EntryHash {
    const Catalog& catalog;
    std::uint64_t operator()(Ref ref) const noexcept {
      return catalog.hash(catalog.records_.entries[ref].name());
    }
  };
  struct SlotHash {
    const Catalog& catalog;
    std::uint64_t operator()(Ref ref) const noexcept {
      const Replica& replica = catalog.records_.replicas[ref];
      return catalog.hash(replica.node, replica.slot);
    }
  };
  [[nodiscard]] std::uint64_t hash(const BlockName& name) const noexcept;
  [[nodiscard]] std::uint64_t hash(NodeIndex node, SlotId slot) const noexcept;
  [[nodiscard]] Ref find(const BlockName& name, std::uint64_t hash) const;
  [[nodiscard]] bool has_twin(Ref replica) const noexcept;
  [[nodiscard]] const char* check_entry(Ref ref) const;
  [[nodiscard]] const char* check_children_and_counts() const;
  void prefetch_replica(Ref entry) const noexcept;
  void free_entry(Ref entry);

  Records& records_;
  EvictionPolicy& policy_;
  std::uint64_t seed_;
  CatalogCounts counts_;
  std::vector<std::uint32_t> by_node_;  ///< replicas on each
  RefIndex<EntryHash> by_name_;
  RefIndex<SlotHash> by_slot_;
};

}  // namespace membrain
