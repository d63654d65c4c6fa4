// What transfers of one client use again and again instead of allocating.
#pragma once

#include <cstddef>
#include <vector>

#include "base/pool.h"
#include "cache/memory/segments.h"
#include "protocol/messages.h"

namespace membrain {

/// Messages that are being built or read, each within one call, and the segments of receives, for
/// as long as they last.
///
/// Threads  The data loop only.
struct TransferScratch {
  static constexpr std::size_t kKeptSegmentLists = 64;

  wire::Fetch fetch;
  wire::Data data;
  std::vector<std::byte> frame;
  Pool<SegmentList> segments{kKeptSegmentLists};
};

}  // namespace membrain
