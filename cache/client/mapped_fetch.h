// Fetches of which some, or all, is copied from arenas of this host.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "cache/client/fetch_list.h"
#include "cache/client/mapped_arena.h"
#include "cache/client/mapped_nodes.h"
#include "cache/client/match_state.h"
#include "membrain/client.h"
#include "membrain/result.h"

namespace membrain {

inline constexpr const char* kMappedLane = "mapped";  ///< in TransferReport::lane_bytes

/// An item whose replica lies in a mapped arena.
struct MappedItem {
  std::uint32_t item = 0;  ///< the caller's number for it
  const MappedArena* arena = nullptr;
  const Location* at = nullptr;
  BlockPart name;
};

/// Which items of a fetch are copied here, and which go the checked way.
struct MappedPlan {
  std::shared_ptr<const ArenaSet> arenas;  ///< keeps what the items point to
  std::vector<MappedItem> mapped;
  std::vector<std::uint32_t> rest;
};

/// The mapped replica of one block part, if there is any.
[[nodiscard]] std::optional<MappedItem> mapped_replica(const Match::State& match,
                                                       std::uint32_t block, std::uint16_t part,
                                                       const ArenaSet& arenas) noexcept;

/// Nothing if no item can be copied here, or any item is not sound: then all of it goes the checked
/// way, which says what is wrong.
[[nodiscard]] std::optional<MappedPlan> plan_mapped(const Match::State& match,
                                                    const FetchList& items,
                                                    std::shared_ptr<const ArenaSet> arenas);

/// Copies one item. False: it goes the checked way.
[[nodiscard]] bool copy_item(const MappedItem& mapped, const WantedRange& item,
                             bool verify) noexcept;

/// One fetch, part of which is copied and part of which goes the checked way, at the same time.
/// What could not be copied after all goes the checked way too. Reports once, when all has ended.
///
/// Threads  `copy` (or `ask`) on any one thread, `give_up` on any; checked parts end on the data
///          loop's. `on_item` is told by all of them, never at once.
class MixedFetch : public std::enable_shared_from_this<MixedFetch> {
 public:
  using Reported = std::function<void(Result<TransferReport>)>;
  /// Starts a fetch the checked way.
  using Checked = std::function<void(FetchList, TransferOptions, Reported)>;

  struct Job {
    std::shared_ptr<const Match::State> match;
    FetchList items;
    TransferOptions options;  ///< with a time-out
    MappedPlan plan;
    bool verify = true;
    const Clock* clock = nullptr;
    Checked checked;
    Reported reported;
  };

  explicit MixedFetch(Job job);

  /// Sends off what goes the checked way from the beginning. Once, as `copy`; in any order.
  void start();
  /// Instead of `copy`, if there is nobody to do it: all of it goes the checked way.
  void ask();
  /// Copies what is mapped, then sends off what could not be. `between`, if any, is called before
  /// each item.
  void copy(const std::function<void()>& between = {});
  /// What has not been copied yet is given up: the operation ends with `cancelled`.
  void cancel() noexcept { cancelled_.store(true, std::memory_order_relaxed); }
  /// If nobody copies yet, nobody will: what is mapped ends at once, for this reason.
  void give_up(Errc why);
  [[nodiscard]] TimePoint deadline() const noexcept { return deadline_; }

 private:
  void send_checked(std::vector<std::uint32_t> items);
  void take_checked(const std::vector<std::uint32_t>& items, Result<TransferReport> report);
  void end_item(std::uint32_t item, const ItemOutcome& outcome);
  void end_part();

  Job job_;
  const TimePoint deadline_;
  std::atomic<bool> cancelled_ = false;
  std::atomic<bool> begun_ = false;  ///< somebody copies what is mapped, or nobody will
  std::mutex mutex_;                 ///< guards what follows, and calls of `on_item`
  TransferReport report_;
  std::optional<Error> failed_;
  std::uint32_t parts_ = 2;  ///< that have not ended; `start` and `copy` are one each
};

}  // namespace membrain
