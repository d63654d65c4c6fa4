// Reserve and seal: blocks that the caller writes where they will lie.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/key.h"
#include "cache/client/node_links.h"
#include "cache/client/part_probe.h"
#include "cache/client/reservation_desk.h"
#include "cache/client/store.h"
#include "membrain/client.h"
#include "membrain/reservation.h"
#include "membrain/result.h"
#include "transport/task.h"

namespace membrain {

/// What is reserved, and within which terms.
struct ReserveJob {
  OpenedNamespace space;
  std::shared_ptr<const KeyMaker> keys;
  std::vector<ReserveItem> items;
  wire::SessionProof proof;
  TimePoint deadline;  ///< of the reservations
  AskParts ask_parts;
  WritableOf writable;
  std::shared_ptr<ReservationDesk> desk;
};

/// What every reservation of these would refuse: `invalid_argument`.
[[nodiscard]] Result<> check_reserve(std::span<const ReserveItem> items) noexcept;

/// One Reservation per item, granted or not. The shard is asked first, for at most
/// Storing::kProbePatience, then the nodes of this host, each with one message for kMaxReserveItems
/// blocks.
///
/// Threads  The data loop only.
Task<std::vector<Reservation>> reserve_blocks(NodeLinks& links, ReserveJob job);

/// A block that its writer has ended.
struct WrittenBlock {
  std::unique_ptr<Reservation::State> slot;  ///< null: there was no room
  Checksum checksum;
};

/// What is sealed, and within which terms.
struct SealJob {
  std::vector<WrittenBlock> blocks;
  wire::SessionProof proof;
  TimePoint deadline;
};

/// Seals each node's blocks, kMaxReserveItems with a message. A block without room is
/// `invalid_argument`.
///
/// Threads  The data loop only.
Task<TransferReport> seal_blocks(NodeLinks& links, SealJob job);

}  // namespace membrain
