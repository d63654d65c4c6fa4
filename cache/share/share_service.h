// Share service: sends shared blocks to those who ask, from where they lie on a GPU.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "cache/memory/device_lane.h"
#include "cache/node/authority.h"
#include "cache/node/node_status.h"
#include "cache/node/peers.h"
#include "cache/share/share_table.h"
#include "protocol/messages.h"
#include "transport/fabric.h"
#include "transport/task.h"

namespace membrain {

/// What the services of shared blocks have in common. All of it outlives them.
struct SharePlace {
  Fabric& fabric;
  ShareTable& table;
  Authority& authority;
  Peers& peers;
  NodeCounters& counters;
  const std::vector<std::unique_ptr<DeviceLane>>& lanes;
  std::function<void()> read_ended;  ///< somebody may wait for it

  [[nodiscard]] Loop& loop() const noexcept { return fabric.loop(); }
  [[nodiscard]] wire::Header header(OpId op) const noexcept;
  /// Null for a GPU that is not ours.
  [[nodiscard]] DeviceLane* lane(int device) const noexcept;
};

/// One coroutine per Fetch. Items go in groups, as many as a staging slot holds. Each is checked
/// when its slot is there, and from then until the GPU has copied it into the slot its engine's
/// block is being read, and no longer: what peers receive is the copy, from the slot's memory on
/// the GPU if they can, else from the host's. So a peer that hangs never holds an engine's block,
/// only a slot, and that for kHung at most: then its connection is closed.
///
/// Threads  The data loop's.
class ShareService {
 public:
  static constexpr std::size_t kMaxFetches = 256;                 ///< under way
  static constexpr std::uint64_t kGroupBytes = 4 << 20;           ///< or one block that is larger
  static constexpr Duration kLongest = std::chrono::seconds(60);  ///< deadline of one Fetch
  static constexpr Duration kHung = std::chrono::seconds(2);      ///< for one group to be sent

  explicit ShareService(SharePlace& place) : place_(place) {}
  ~ShareService();
  ShareService(const ShareService&) = delete;
  ShareService& operator=(const ShareService&) = delete;

  /// `into_device`: the reader receives what comes from a GPU's memory into one.
  void on_fetch(PeerId peer, OpId op, wire::Fetch request, bool into_device);
  void on_cancel(PeerId peer, OpId fetch);
  void on_lost(PeerId peer);
  /// New fetches are `unavailable`; what is unsent of the others is `cancelled`.
  void stop();
  [[nodiscard]] bool idle() const noexcept { return active_.empty(); }

 private:
  struct Active;
  /// Items of one Data message, and what of them the GPU copies.
  struct Group {
    wire::Data message;
    std::vector<cuda::DevicePiece> pieces;
    std::vector<std::size_t> read;  ///< items of `message` whose bytes these are
    std::vector<wire::SlotRef> open;
    std::uint64_t bytes = 0;
    std::size_t chunks = 0;
  };

  Task<> serve(PeerId peer, OpId op, wire::Fetch request, bool into_device);
  /// Copies a group into a slot: into its memory on the GPU if it goes straight from there.
  static Task<Result<>> copy(const Group& group, DeviceLane& lane, DeviceLane::Slot& slot,
                             bool straight);
  Task<> send(Active& fetch, DeviceLane::Slot slot, wire::Data message, Segment payload);
  [[nodiscard]] DeviceLane* lane_of(const wire::FetchItem& item) const noexcept;
  /// Takes items from `rest` that `lane` can copy together; those that are not there any more, too.
  Group open(std::span<const wire::FetchItem>& rest, const DeviceLane& lane);
  static bool add(Group& group, const wire::FetchItem& item, const SharedBlock& block,
                  const DeviceLane& lane);
  void close_reads(const Group& group);
  [[nodiscard]] Active* find(PeerId peer, OpId op) const noexcept;
  void answer(PeerId peer, OpId op, std::span<const wire::FetchItem> items,
              wire::ItemStatus status);
  void send_frame(PeerId peer, OpId op, const wire::Data& message);

  SharePlace& place_;
  std::vector<Active*> active_;  ///< at most kMaxFetches: looked through
  bool stopped_ = false;
};

}  // namespace membrain
