// Block service: the data loop of a node. Speaks with clients, and has the slots.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "cache/node/adoption.h"
#include "cache/node/announcers.h"
#include "cache/node/arena.h"
#include "cache/node/authority.h"
#include "cache/node/block_table.h"
#include "cache/node/copy_service.h"
#include "cache/node/door.h"
#include "cache/node/fetch_service.h"
#include "cache/node/node_status.h"
#include "cache/node/pause.h"
#include "cache/node/peers.h"
#include "cache/node/reservations.h"
#include "cache/node/reserve_service.h"
#include "cache/node/sides.h"
#include "cache/node/space_watch.h"
#include "cache/node/store_service.h"
#include "cache/node/suspects.h"
#include "transport/fabric.h"
#include "transport/windows.h"

namespace membrain {

struct BlockLimits {
  StoreLimits store;
  FetchLimits fetch;
  ReserveLimits reserve;
  std::size_t adoption_step_bytes = 16 << 20;  ///< hashed in one turn after a restart
};

/// Receives what clients send {Fetch, CancelFetch, Store, ReserveSlots, SealSlots, GiveBackSlots,
/// OpenWindow, Suspect} and other nodes answer {Data}, and does what the shards decided.
/// A frame that does not decode closes its connection.
///
/// Ownership  Arena, fabric and counters outlive it. Destroy it after `ShardSide::slots_quiet`, or
///            when its loop will not turn again and nothing is under way.
/// Threads    The data loop's, but for the constructor and `start` (before the loop runs).
class BlockService final : public Receiver, public SlotSide {
 public:
  /// `windows`: opens the arena to the hardware of other processes; null: not. On the same loop.
  BlockService(Fabric& fabric, Arena& arena, NodeCounters& counters, BlockLimits limits,
               Windows* windows = nullptr);
  ~BlockService();

  /// Takes first contacts at `listen`, adopts what is in the arena, then tells `shard`. The address
  /// with the real port.
  Result<Address> start(const Address& listen, Door<ShardSide> shard);
  [[nodiscard]] const Door<SlotSide>& door() const noexcept { return door_; }

  void on_message(PeerId peer, std::span<const std::byte> frame, Payload payload) override;
  void on_lost(PeerId peer, const Error& why) override;

  void mapped(const std::vector<ShardId>& shards) override;
  void accepted(LinkId link, const LinkTerm& term) override;
  void want_portion(LinkId link) override;
  void settled(LinkId link, const std::vector<Verdict>& verdicts) override;
  void free(LinkId link, Epoch epoch, const std::vector<wire::SlotRef>& slots) override;
  void need_answered(LinkId link, std::size_t slots) override;
  void copy(LinkId link, wire::CopyBlocks order) override;
  void lost(LinkId link) override;
  void take_no_more() override;
  void stop() override;

  [[nodiscard]] const BlockTable& table() const noexcept { return table_; }

 private:
  void adopt();
  void gone(PeerId peer);
  void refuse(PeerId peer, OpId op, Errc code, std::string_view reason);
  void open_window();
  void on_open_window(PeerId peer, OpId op, const wire::OpenWindow& request);
  bool dispatch(PeerId peer, const wire::Frame& frame, Payload& payload);
  Task<> drain();

  Fabric& fabric_;
  NodeCounters& counters_;
  BlockLimits limits_;
  BlockTable table_;
  Authority authority_;
  Peers peers_;
  std::unique_ptr<Region> region_;
  Windows* windows_;
  std::vector<std::byte> window_;  ///< what others enter by; empty: closed
  DataLoop data_;
  Announcers announcers_;
  SpaceWatch space_;
  Reservations reservations_;
  StoreService stores_;
  ReserveService reserves_;
  FetchService fetches_;
  CopyService copies_;
  Suspects suspects_;
  Adoption adoption_;
  std::size_t adoption_logged_percent_ = 0;
  Door<SlotSide> door_;
  Door<BlockService> own_door_;
  Door<ShardSide> shard_;
  bool stopped_ = false;
};

}  // namespace membrain
