// Blocks that a GPU reads out of an arena of this host by itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "cache/client/fetch_list.h"
#include "cache/client/mapped_fetch.h"
#include "cache/client/mapped_nodes.h"
#include "cache/client/match_state.h"
#include "cache/memory/device_lane.h"
#include "transport/task.h"

namespace membrain {

inline constexpr const char* kPulledLane = "mapped_gpu";  ///< in TransferReport::lane_bytes

/// How a GPU comes by what lies in arenas of this host.
struct PullTerms {
  /// What is mapped now, and may be page-locked; null: nothing.
  std::function<std::shared_ptr<const ArenaSet>()> arenas;
  bool verify = true;
};

/// One group of a fetch: one copy a block over the bus into the slot's memory on the GPU, hashed
/// there, then, when the seal still says so, one kernel to the pages. What is not in a page-locked
/// arena, is not whole (a range cannot be compared), or did not come right is left to the ordinary
/// way.
///
/// Threads The data loop. Lives until `run` has ended.
class ArenaPull {
 public:
  ArenaPull(DeviceLane& lane, DeviceLane::Slot& slot, const PullTerms& terms);

  /// Looks whether an item can come that way, and takes it if so.
  void offer(const Match::State& match, const WantedRange& item, std::size_t number);
  /// The numbers of those that are on the GPU now.
  Task<std::vector<std::size_t>> run();
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  struct Wanted {
    MappedItem at;
    const WantedRange* item = nullptr;
    std::size_t number = 0;
  };

  DeviceLane& lane_;
  DeviceLane::Slot& slot_;
  const bool verify_;
  const std::shared_ptr<const ArenaSet> arenas_;  ///< keeps what is read; null: nothing is
  std::vector<Wanted> wanted_;
  std::vector<cuda::HostRun> runs_;
  std::uint64_t staged_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace membrain
