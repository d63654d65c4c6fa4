// Space watch: asks the shards for victims ahead of need.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cache/node/announcers.h"
#include "cache/node/block_table.h"
#include "transport/loop.h"

namespace membrain {

/// One question at a time, to every shard that is there, each for its share; it is answered when
/// all of them have answered or are lost. A shard that gave less than its share is passed over in
/// the next question. After an answer that freed something it looks again soon; after one that did
/// not (all is pinned, or the shards are in their grace period), only when a store asks for space
/// again, and not at once.
///
/// Threads  The data loop's.
class SpaceWatch {
 public:
  static constexpr Duration kAfterSome = std::chrono::milliseconds(1);
  static constexpr Duration kAfterNone = std::chrono::milliseconds(50);

  SpaceWatch(Loop& loop, BlockTable& table, Announcers& announcers);

  /// Space for `length` bytes was just asked for.
  void asked(std::uint32_t length);
  void answered(LinkId link, std::size_t slots);
  /// Connections came or went: no answer will come on those that are over.
  void links_changed();
  void stop();

 private:
  struct Asked {
    LinkId link;
    std::size_t count = 0;  ///< of victims of the shard's choice
  };

  void look();
  void ask(const std::vector<Need>& needs);
  void all_answered();

  Loop& loop_;
  BlockTable& table_;
  Announcers& announcers_;
  Timer again_;
  TimePoint not_before_{};
  std::vector<Asked> asked_;        ///< that have not answered
  std::size_t given_ = 0;           ///< slots, in answer to this question
  std::vector<ShardId> gave_less_;  ///< in answer to this question or the last one
  std::size_t turn_ = 0;
  bool stopped_ = false;
};

}  // namespace membrain
