// Reserve service: lends slots to writers of this host, and takes back what they leave.
#pragma once

#include <chrono>
#include <vector>

#include "cache/node/reservations.h"
#include "cache/node/space_watch.h"
#include "cache/node/store_service.h"
#include "protocol/messages.h"
#include "transport/loop.h"

namespace membrain {

/// Answers ReserveSlots and takes GiveBackSlots; `StoreService::on_seal` does the rest. Only a
/// writer that this node's door has named, and that still has its mapping, is lent anything.
///
/// Ownership  Reservations outlive it.
/// Threads    The data loop's.
class ReserveService {
 public:
  /// how often it looks for reservations that are over and for writers that have gone
  static constexpr Duration kLook = std::chrono::milliseconds(500);

  ReserveService(DataLoop& data, SpaceWatch& space, Reservations& reservations);

  void on_reserve(PeerId peer, OpId op, const wire::ReserveSlots& request);
  void on_give_back(const wire::GiveBackSlots& request);
  /// What this peer reserved is lost.
  void on_lost(PeerId peer);
  /// A slot that an earlier life lent to a writer that is still there.
  void adopt(const SlotClaim& claim, WriterId writer);
  /// Lends nothing more.
  void stop();

 private:
  [[nodiscard]] wire::ReservedItem reserve(PeerId peer, const wire::ReserveSlots& request,
                                           const wire::ReserveItem& item, TimePoint until);
  void look();

  DataLoop& data_;
  SpaceWatch& space_;
  Reservations& reservations_;
  Timer look_;
  bool stopped_ = false;
};

}  // namespace membrain
