// Block table: what is in the arena's slots, and what may be done with each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/ids.h"
#include "cache/node/announcer.h"
#include "cache/node/arena.h"
#include "cache/node/node_status.h"
#include "cache/node/slot_pool.h"
#include "membrain/result.h"
#include "protocol/messages.h"

namespace membrain {

/// A slot that is being filled. Ends with `BlockTable::seal` or `abandon`.
struct SlotClaim {
  Slot slot;
  std::span<std::byte> memory;  ///< as long as the block
};

/// The node's truth: slot by slot {filling, sealed, corrupt, draining}, transfers in flight, and
/// which block is where. Arena, seals and slot pool change only through it.
///
/// Pure but for the arena's memory: no messages, no time.
/// Threads  The data loop's.
class BlockTable final : public SlotList {
 public:
  explicit BlockTable(Arena& arena, NodeCounters& counters);

  // ---- filling ----

  /// A slot for `length` bytes. `invalid_argument`: too large (or 0); `out_of_capacity`: full.
  Result<SlotClaim> claim(std::uint32_t length);
  /// Takes nothing any more: it is full for every `claim`.
  void close() noexcept { pool_.close(); }
  /// The block is complete: writes the seal and indexes it. Once per claim. If another slot has
  /// come to hold the same block meanwhile, this one is freed and the other one named: `fresh`
  /// false.
  struct Sealed {
    wire::SlotRef at;
    bool fresh = false;
    bool published = false;
  };
  Sealed seal(const SlotClaim& claim, const wire::BlockMeta& meta, const Checksum& sum);
  /// Gives a claimed slot back; nothing may land in it any more.
  void abandon(const SlotClaim& claim);

  /// A claimed slot is filled in place by a process of this host: writes that down, so that the
  /// node's next life knows it too.
  void lend(const SlotClaim& claim, WriterId writer);
  /// Claims a slot that an earlier life lent; nothing may be sealed in it. `corrupt` if it fits
  /// nowhere.
  Result<SlotClaim> adopt_lent(const LentContent& content);

  /// Where a block is sealed here, if it is.
  struct Known {
    wire::SlotRef at;
    bool published = false;
  };
  [[nodiscard]] std::optional<Known> find(const wire::BlockMeta& meta) const;

  // ---- reading ----

  /// Validates against seal and generation and, if `ok`, yields the bytes and counts a transfer in
  /// flight: the slot stays as it is until `close_read`.
  wire::ItemStatus open_read(const wire::FetchItem& item, std::span<std::byte>& bytes);
  /// The same by place alone, the whole block: for re-hashing.
  wire::ItemStatus open_read(const wire::SlotRef& at, std::span<std::byte>& bytes, Checksum& sum);
  void close_read(const wire::SlotRef& at);

  // ---- what the shard says ----

  /// The shard's verdict on a sealed slot: `ok` makes it published, any other frees it.
  void settle(const wire::SlotRef& at, wire::ItemStatus verdict);
  /// Frees a slot now or, with transfers in flight, when they have drained. False if that slot is
  /// not in use in that generation (freed already).
  bool free(const wire::SlotRef& at);

  // ---- what the node found ----

  /// The slot's bytes are not what its seal says, or it has none that can be read: it is not served
  /// any more, and its seal is broken for those who read it by themselves. False if it is gone.
  bool mark_corrupt(const wire::SlotRef& at);
  /// Frees what is corrupt in that range (and no longer known to its shard): after a full report.
  void free_corrupt(const KeyRange& range);

  /// Takes over a slot that an earlier life sealed; its bytes have been checked. `corrupt` if it
  /// fits nowhere, or the block is here already.
  Result<> adopt(const SealContent& content);

  // ---- looking ----

  /// Marks those as corrupt whose seal cannot be read: what is not listed is gone for the shard.
  bool list(SlotId& from, std::size_t most, const KeyRange& range,
            std::vector<wire::SlotEntry>& into) override;
  void all_listed(const KeyRange& range) override { free_corrupt(range); }
  [[nodiscard]] std::optional<BlockKey> key_of(const wire::SlotRef& at) const override;
  void for_each_sealed(
      const std::function<void(const wire::SlotEntry&, std::span<const std::byte>)>& see) const;
  [[nodiscard]] SlotPool& pool() noexcept { return pool_; }
  [[nodiscard]] const SlotPool& pool() const noexcept { return pool_; }
  [[nodiscard]] Arena& arena() noexcept { return arena_; }
  [[nodiscard]] std::uint64_t reads_in_flight() const noexcept { return reads_in_flight_; }

  /// Every sealed slot has a sound seal, lies in one slot of the pool, and is indexed once; nothing
  /// else is. `corrupt` with what is wrong.
  [[nodiscard]] Result<> check_invariants() const;

 private:
  bool list_sealed(SlotId& from, std::size_t most, const KeyRange& range,
                   std::vector<wire::SlotEntry>& into, std::vector<wire::SlotRef>& unsealed) const;
  enum class State : std::uint8_t { filling, sealed, corrupt, draining };
  struct Record {
    Generation generation;
    BlockKey key;  ///< once it is sealed
    std::uint32_t length = 0;
    std::uint32_t in_flight = 0;
    State state = State::filling;
    bool published = false;
  };
  struct Name {
    NamespaceId space;
    Era era;
    BlockKey key;
    std::uint16_t part = 0;
    bool operator==(const Name&) const = default;
  };
  struct NameHash {
    std::size_t operator()(const Name& name) const noexcept;
  };

  static Name name_of(const wire::BlockMeta& meta) noexcept;
  Record* record_of(const wire::SlotRef& at);
  void unindex(const wire::SlotRef& at);
  void release(const wire::SlotRef& at);
  void count_space() noexcept;

  Arena& arena_;
  NodeCounters& counters_;
  SlotPool pool_;
  std::unordered_map<std::uint32_t, Record> records_;  ///< by slot id: every slot in use
  std::unordered_map<Name, SlotId, NameHash> index_;   ///< sealed slots
  std::unordered_set<std::uint32_t> corrupt_;          ///< by slot id: few, if any
  std::uint64_t reads_in_flight_ = 0;
};

}  // namespace membrain
