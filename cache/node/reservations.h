// Reservations: slots that processes of this host fill in place, and who may still write to them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "cache/node/block_table.h"
#include "protocol/messages.h"
#include "transport/fabric.h"

namespace membrain {

struct ReserveLimits {
  std::size_t max_slots = 4096;                      ///< of one writer, with what it has lost
  std::uint64_t max_bytes = std::uint64_t{1} << 30;  ///< likewise; at most a quarter of the slots
  Duration longest = std::chrono::seconds(60);       ///< of one reservation
};

/// A slot that a writer was lent. It is claimed in the block table for as long as it is here.
struct LentSlot {
  SlotClaim claim;
  WriterId writer;
  wire::BlockMeta meta;
  PeerId peer;  ///< who asked for it
  TimePoint until{};
  bool lost = false;  ///< nothing can be sealed in it any more, but its writer may still write
};

/// Every slot that is lent. One that is lost (its time is up, or its connection gone, or the node's
/// last life ended meanwhile) stays here, out of use, until its writer gives it back or is no more:
/// a writer that stops and resumes later finds its slot as it left it.
///
/// Pure: time, and which writers are alive, are parameters.
/// Threads  The data loop's.
/// Bounds   `ReserveLimits` for each writer, half of the arena for all of them.
class Reservations {
 public:
  Reservations(std::uint64_t capacity_bytes, ReserveLimits limits) noexcept;

  /// Another slot for so many bytes may be lent to this writer.
  [[nodiscard]] bool has_room(WriterId writer, std::uint64_t bytes) const noexcept;
  /// Once per slot: it is not here yet.
  void lend(LentSlot slot);
  /// The writer has ended with it: the caller's from now on. Nothing if it is not that writer's.
  [[nodiscard]] std::optional<LentSlot> take(WriterId writer, const wire::SlotRef& at);

  void lose(PeerId peer) noexcept;
  void lose_overdue(TimePoint now) noexcept;
  /// What this writer has lost, at most `most` of it.
  [[nodiscard]] std::vector<wire::SlotRef> lost_by(WriterId writer, std::size_t most) const;
  /// Lost slots whose writers are no more: the caller's from now on.
  [[nodiscard]] std::vector<LentSlot> take_orphans(const std::function<bool(WriterId)>& alive);

  [[nodiscard]] bool empty() const noexcept { return slots_.empty(); }
  [[nodiscard]] std::size_t count() const noexcept { return slots_.size(); }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }  ///< of slots
  [[nodiscard]] const ReserveLimits& limits() const noexcept { return limits_; }

 private:
  struct Account {
    std::size_t slots = 0;
    std::uint64_t bytes = 0;
  };
  using Slots = std::map<SlotId, LentSlot>;
  LentSlot take_out(Slots::iterator at);

  ReserveLimits limits_;
  std::uint64_t most_bytes_;  ///< of all writers
  Slots slots_;
  std::map<WriterId, Account> writers_;
  std::uint64_t bytes_ = 0;
};

}  // namespace membrain
