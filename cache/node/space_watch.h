// Space watch: asks the shard for victims ahead of need.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "cache/node/announcer.h"
#include "cache/node/block_table.h"
#include "transport/loop.h"

namespace membrain {

/// One question at a time. After an answer that freed something it looks again soon; after one
/// that did not (all is pinned, or the shard is in its grace period), only when a store asks for
/// space again, and not at once.
///
/// Threads  The data loop's.
class SpaceWatch {
 public:
  static constexpr Duration kAfterSome = std::chrono::milliseconds(1);
  static constexpr Duration kAfterNone = std::chrono::milliseconds(50);

  SpaceWatch(Loop& loop, BlockTable& table, Announcer& announcer);

  /// Space for `length` bytes was just asked for.
  void asked(std::uint32_t length);
  void answered(std::size_t slots);
  /// No answer will come: the connection is gone.
  void reset();
  void stop();

 private:
  void look();

  Loop& loop_;
  BlockTable& table_;
  Announcer& announcer_;
  Timer again_;
  TimePoint not_before_{};
  bool asking_ = false;
  bool stopped_ = false;
};

}  // namespace membrain
