// Slots that a node is to free, told until it has answered; and those that are gone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "protocol/messages.h"

namespace membrain {

/// The condemned slots of one node in its present registration, and which ones are gone of late, so
/// that a late word about them brings nothing back.
class Condemned {
 public:
  static constexpr std::size_t kMaxCondemned = 65536;  ///< no victim is chosen beyond it
  static constexpr std::size_t kMaxGone = 8192;        ///< remembered

  void add(const wire::SlotRef& at, std::uint32_t slot_bytes);
  /// The node has freed it, or will by itself.
  void note_gone(const wire::SlotRef& at);
  /// The node answers that it is gone. True if it was condemned.
  bool freed(const wire::SlotRef& at);
  /// It is condemned or gone: a publication of it is out of date.
  [[nodiscard]] bool knows(const wire::SlotRef& at) const noexcept;

  /// Slots of this size that the node has not answered for yet.
  [[nodiscard]] std::size_t waiting(std::uint32_t slot_bytes) const noexcept;
  [[nodiscard]] std::size_t count() const noexcept { return slots_.size(); }
  [[nodiscard]] bool full() const noexcept { return slots_.size() >= kMaxCondemned; }

  /// Slots that were never told yet, at most `max_count`; those are told then.
  [[nodiscard]] std::vector<wire::SlotRef> untold(std::size_t max_count);
  [[nodiscard]] bool any_untold() const noexcept { return !untold_.empty(); }
  /// At most `max_count` of all that wait, others the next time.
  [[nodiscard]] std::vector<wire::SlotRef> repeat(std::size_t max_count);

 private:
  struct Slot {
    Generation generation;
    std::uint32_t slot_bytes;
  };
  [[nodiscard]] bool waits(const wire::SlotRef& at) const noexcept;

  std::unordered_map<SlotId, Slot> slots_;
  std::unordered_map<std::uint32_t, std::size_t> by_size_;
  std::deque<wire::SlotRef> untold_;
  std::deque<wire::SlotRef> told_;  ///< oldest first; those freed meanwhile are skipped
  struct Gone {
    Generation generation;
    std::uint64_t word = 0;  ///< the number of the last word about it
  };
  std::unordered_map<SlotId, Gone> gone_;
  std::map<std::uint64_t, SlotId> gone_by_word_;  ///< whose last word is oldest is forgotten first
  std::uint64_t last_word_ = 0;
};

}  // namespace membrain
