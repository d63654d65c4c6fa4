// Store service: receives blocks straight into slots, seals them, and answers when they are known.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cache/node/announcers.h"
#include "cache/node/authority.h"
#include "cache/node/block_table.h"
#include "cache/node/node_status.h"
#include "cache/node/pause.h"
#include "cache/node/peers.h"
#include "cache/node/reservations.h"
#include "cache/node/space_watch.h"
#include "protocol/messages.h"
#include "transport/fabric.h"

namespace membrain {

/// What the services of the data loop share. All of it outlives them.
struct DataLoop {
  Fabric& fabric;
  BlockTable& table;
  Authority& authority;
  Peers& peers;
  NodeCounters& counters;
  const Region* region = nullptr;  ///< covers the arena's slots, if the fabric could register them

  [[nodiscard]] Loop& loop() const noexcept { return fabric.loop(); }
  /// The header of an answer to request `op`.
  [[nodiscard]] wire::Header header(OpId op) const noexcept {
    wire::Header header;
    header.op = op;
    header.epoch = authority.latest();
    return header;
  }
};

struct StoreLimits {
  std::size_t max_stores = 1024;                               ///< under way
  std::uint64_t max_receiving_bytes = std::uint64_t{1} << 30;  ///< of payloads under way
  Duration longest = std::chrono::seconds(60);                 ///< deadline of one Store
};

/// One coroutine per Store. Beyond a limit stores are shed: `unavailable` at once. Never waits for
/// space.
///
/// Ownership  A slot that is being filled is the coroutine's; a sealed one is the table's.
/// Threads    The data loop's.
class StoreService {
 public:
  /// A receive that hangs is ended so long after the deadline, by closing its peer.
  static constexpr Duration kDrain = std::chrono::seconds(1);
  /// hashed in one turn of the loop, or one item if that is more
  static constexpr std::uint64_t kHashSlice = std::uint64_t{4} << 20;
  static constexpr std::uint64_t kMaxPayloadBytes = kLargestSlotBytes;

  StoreService(DataLoop& data, Announcers& announcers, SpaceWatch& space,
               Reservations& reservations, StoreLimits limits);
  ~StoreService();

  void on_store(PeerId peer, OpId op, wire::Store request, Payload payload);
  /// What a writer has filled in place is a received store from here on. Its slots are the node's
  /// again whatever becomes of them: the writer has said that it is done.
  void on_seal(PeerId peer, OpId op, const wire::SealSlots& request);
  /// The shard's verdict on a slot: stores that wait for it go on.
  void settle(const wire::SlotRef& at, wire::ItemStatus verdict);
  /// Stores of this peer need no answer any more.
  void on_lost(PeerId peer);
  /// New stores are `unavailable`; waiting ones are answered.
  void stop();
  [[nodiscard]] bool idle() const noexcept { return active_.empty(); }

 private:
  struct Active;
  struct Waiting {
    Generation generation;
    Active* store;
    std::size_t item;
    bool joined;  ///< the slot is another store's: as good as stored, but a duplicate
  };
  using Name = std::pair<PeerId, OpId>;
  using Claims = std::vector<std::optional<SlotClaim>>;

  Task<> serve(PeerId peer, OpId op, wire::Store request, Payload payload);
  Task<> serve_sealed(PeerId peer, OpId op, wire::Store request, Claims claims);
  void take_lent(const wire::SealSlots& request, wire::Store& store, Claims& claims);
  Task<> publish(const wire::Store& request, const Claims& claims, Active& store);
  Task<> await_verdicts(Active& store, TimePoint deadline);
  bool place(const wire::Store& request, Active& store, Claims& claims);
  Task<Result<>> receive(PeerId peer, const wire::Store& request, const Claims& claims,
                         Payload payload, TimePoint deadline);
  std::vector<Segment> segments_for(const wire::Store& request, const Claims& claims);
  Task<> hash(const Claims& claims, std::vector<Checksum>& sums, Active& store);
  void seal(const wire::Store& request, const Claims& claims, const std::vector<Checksum>& sums,
            Active& store);
  void watch(const wire::SlotRef& at, Active& store, std::size_t item, bool joined);
  void unwatch(const Active& store);
  [[nodiscard]] bool full() const noexcept {
    return stopped_ || active_.size() >= limits_.max_stores;
  }
  void answer(PeerId peer, OpId op, std::vector<wire::ItemStatus> statuses);

  DataLoop& data_;
  Announcers& announcers_;
  SpaceWatch& space_;
  Reservations& reservations_;
  StoreLimits limits_;
  std::map<Name, Active*> active_;
  std::unordered_multimap<std::uint32_t, Waiting> waiting_;  ///< by slot
  std::uint64_t receiving_bytes_ = 0;
  std::vector<std::byte> scratch_;  ///< where refused bytes of a mixed payload go
  bool stopped_ = false;
};

}  // namespace membrain
