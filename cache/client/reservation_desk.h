// ReservationDesk: where Reservations, on any thread, give their slots back.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "cache/client/writable_arena.h"
#include "membrain/reservation.h"
#include "protocol/messages.h"

namespace membrain {

/// A slot that was lent to this process.
struct HeldSlot {
  std::shared_ptr<const WritableArena> arena;
  wire::SlotRef at;
};

/// Collects slots, and rings the data loop once for all that came since it last looked. Shared by
/// the client and its Reservations: one that is destroyed too late finds a closed desk. Its node
/// then takes the slot back when the mapping goes.
///
/// Threads  Any.
class ReservationDesk {
 public:
  /// Posts to the data loop that `take` has something; false if that failed. Called under the lock:
  /// it must only post.
  using Bell = std::function<bool()>;

  explicit ReservationDesk(Bell bell) : bell_(std::move(bell)) {}

  void give_back(HeldSlot slot);
  /// Data loop: what came since the last call.
  [[nodiscard]] std::vector<HeldSlot> take();
  void close();

 private:
  std::mutex mutex_;
  std::vector<HeldSlot> back_;  // guarded by mutex_
  bool rung_ = false;           // guarded by mutex_
  Bell bell_;                   // guarded by mutex_
};

/// Gives its slot back, unless that was taken out of it.
struct Reservation::State {
  ~State() {
    if (held.arena && desk) desk->give_back(std::move(held));
  }

  std::shared_ptr<ReservationDesk> desk;
  HeldSlot held;
  std::uint32_t size = 0;  ///< bytes
};

}  // namespace membrain
