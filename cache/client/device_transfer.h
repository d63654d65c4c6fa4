// Transfers between blocks and a GPU's memory: the host's transfers, through staging slots.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "cache/client/arena_pull.h"
#include "cache/client/cancel_token.h"
#include "cache/client/fetch_list.h"
#include "cache/client/match_state.h"
#include "cache/client/store_list.h"
#include "cache/memory/device_lane.h"
#include "membrain/client.h"
#include "membrain/result.h"
#include "transport/completion.h"
#include "transport/task.h"

namespace membrain {

/// A fetch into host memory. On the data loop.
using HostFetch = std::function<Task<Result<TransferReport>>(
    std::shared_ptr<const Match::State> match, FetchList items, TransferOptions options,
    std::shared_ptr<CancelToken> cancel)>;
/// A store from host memory. On the data loop.
using HostStore = std::function<Task<Result<TransferReport>>(
    StoreList list, TransferOptions options, std::shared_ptr<CancelToken> cancel)>;

/// What one transfer asks for.
struct DeviceTerms {
  TransferOptions options;
  std::shared_ptr<CancelToken> cancel;  ///< may be null
  TimePoint deadline;
};

/// What both directions share. Items go in groups, in their order: as many as kGroupBytes and a
/// slot's table hold, at least one. Each group has a slot for itself; as many groups as there are
/// slots are under way, so that one is on the bus while another is on the network.
///
/// Errors  `invalid_argument` before anything moves, `cancelled` when it was taken back; else a
///         report. An item is reported when its memory is the caller's again.
/// Threads The data loop only. Lives until `run` has ended.
class DeviceTransfer {
 public:
  static constexpr std::uint64_t kGroupBytes = std::uint64_t{4} << 20;

  virtual ~DeviceTransfer() = default;
  Task<Result<TransferReport>> run();

 protected:
  /// Items that share a slot: `count` from `first` on.
  struct Group {
    std::size_t first = 0;
    std::size_t count = 0;
  };

  DeviceTransfer(DeviceLane& lane, DeviceTerms terms);

  /// `invalid_argument` for what cannot be done, whatever happens.
  [[nodiscard]] virtual Result<> check_items() const = 0;
  [[nodiscard]] virtual std::size_t item_count() const noexcept = 0;
  [[nodiscard]] virtual Place place(std::size_t item) const noexcept = 0;
  /// Moves a group through a slot, and ends its items.
  virtual Task<> move(Group group, DeviceLane::Slot& slot) = 0;

  [[nodiscard]] DeviceLane& lane() noexcept { return lane_; }
  /// What a host transfer of a group is told; it is taken back with this one.
  [[nodiscard]] TransferOptions options_now() const;
  [[nodiscard]] std::shared_ptr<CancelToken> host_token();
  [[nodiscard]] int device() const noexcept { return terms_.options.memory.device; }
  /// The bytes of some items into the slot.
  Task<Result<>> gather(std::span<const std::uint32_t> items, DeviceLane::Slot& slot);
  [[nodiscard]] static std::vector<std::uint32_t> items_of(Group group);
  /// The GPU can hash an item: as long as it must be, and in sixteens.
  [[nodiscard]] bool hashable(std::size_t item) const noexcept;
  /// The same into the slot's memory on the GPU, and their checksums. All are `hashable`.
  Task<Result<std::vector<Checksum>>> collect(std::span<const std::uint32_t> items,
                                              DeviceLane::Slot& slot);
  /// Adds the pieces of an item to a list.
  void add_pieces(std::size_t item, std::vector<cuda::DevicePiece>& pieces) const;
  using LaneBytes = std::map<std::string, std::uint64_t>;
  void count(std::uint64_t bytes, const LaneBytes& lanes);
  void count(const Detours& detours) noexcept { report_.detours += detours; }
  void end(std::size_t item, const ItemOutcome& outcome);
  void end_all(Group group, Errc why);
  /// A host transfer of these did not take place.
  void end_refused(std::span<const std::uint32_t> items, const Error& why);

 private:
  Result<> plan();
  Task<> work();
  void cancel();
  [[nodiscard]] DeviceLane::Stopped stopped() const;

  DeviceLane& lane_;
  DeviceTerms terms_;
  std::vector<Group> groups_;
  std::size_t next_group_ = 0;
  std::vector<std::weak_ptr<CancelToken>> host_tokens_;
  Completion workers_;
  TransferReport report_;
  std::optional<Error> refused_;
  bool cancelled_ = false;
};

/// A fetch into a GPU's memory: what lies in arenas that it reads itself comes from there. The rest
/// comes into slots: into their memory on the GPU if the lane and the connection allow it, and is
/// compared there; else into the host's, verified there, and over in one copy a group. What comes
/// wrong to the GPU is fetched once more, to the host. What did not come is passed over: nothing of
/// it reaches the pages.
[[nodiscard]] Task<Result<TransferReport>> fetch_to_device(
    DeviceLane& lane, DeviceTerms terms, std::shared_ptr<const Match::State> match, FetchList items,
    HostFetch fetch, PullTerms pull);

/// Which of these blocks are there already.
using AskKnown = std::function<Task<std::vector<bool>>(const StoreList& list)>;

/// Whether a block would go to a node that takes it from a GPU's memory.
using TakesStraight = std::function<bool(const StoreItem& item)>;

/// A store from a GPU's memory: what is not known yet goes into slots in one copy a group, and on
/// as any store; from the slot's memory on the GPU, hashed there, if that can be. What is known
/// stays where it is: nothing of it crosses the bus.
[[nodiscard]] Task<Result<TransferReport>> store_from_device(DeviceLane& lane, DeviceTerms terms,
                                                             StoreList list, HostStore store,
                                                             AskKnown known,
                                                             TakesStraight straight);

}  // namespace membrain
