// WritableArena: a node's slots as a process of its host writes to them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_set>
#include <vector>

#include "base/ids.h"
#include "membrain/result.h"
#include "protocol/messages.h"
#include "transport/descriptor.h"

namespace membrain {

/// The slots of one life of one node, mapped for writing; header and seals are not in it. This
/// process writes only to slots that were lent to it (docs/adr/0017), and keeps count of them: what
/// the node calls lost is given back once nobody here writes to it any more.
///
/// Ownership  Keeps the mapping for as long as anybody has it; the node may take back what it lent
///            when it is gone.
/// Threads    Any.
/// Cost       Pages are mapped by `prepare`, kPrepareBytes at once; 8 bytes of page table for each.
class WritableArena {
 public:
  static constexpr std::size_t kPrepareBytes = std::size_t{2} << 20;

  /// Maps a file that a node has handed out for writing. `corrupt` if it is not the arena of this
  /// life of this node; `out_of_capacity` without address space.
  static Result<std::shared_ptr<const WritableArena>> map(const Descriptor& file, NodeId node,
                                                          Incarnation life, WriterId writer);
  ~WritableArena();
  WritableArena(const WritableArena&) = delete;
  WritableArena& operator=(const WritableArena&) = delete;

  [[nodiscard]] NodeId node() const noexcept { return node_; }
  [[nodiscard]] Incarnation life() const noexcept { return life_; }
  [[nodiscard]] WriterId writer() const noexcept { return writer_; }

  /// All of them, lent or not: to be read.
  [[nodiscard]] std::span<const std::byte> slots() const noexcept { return slots_; }
  /// A lent slot's memory; empty if that does not lie in the arena.
  [[nodiscard]] std::span<std::byte> bytes(const wire::SlotRef& at,
                                           std::uint32_t length) const noexcept;

  /// Maps what will be written for the first time, as far as the kernel can (Linux 5.14): a third
  /// of what a fault for each page costs.
  void prepare(std::span<const std::byte> slot) const noexcept;

  /// What was lent may be written to from now on.
  void begin(const wire::ReservedSlots& lent) const;
  /// Nobody here writes to these any more.
  void end(std::span<const wire::SlotRef> slots) const;
  /// Of what the node calls lost, what nobody here writes to.
  [[nodiscard]] std::vector<wire::SlotRef> idle_of(const std::vector<wire::SlotRef>& lost) const;

 private:
  WritableArena() = default;

  std::span<std::byte> slots_;
  std::unique_ptr<std::atomic<bool>[]> prepared_;  ///< by kPrepareBytes of slots
  NodeId node_;
  Incarnation life_;
  WriterId writer_;
  mutable std::mutex mutex_;
  mutable std::unordered_set<Generation> writing_;  ///< guarded by the mutex
};

}  // namespace membrain
