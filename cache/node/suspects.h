// Suspects: re-hashes slots whose bytes a reader doubts.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>

#include "base/checksum.h"
#include "cache/node/block_table.h"
#include "transport/loop.h"

namespace membrain {

/// Slice by slice, at most kBytesPerSecond: a liar cannot keep the loop busy. At most kMaxWaiting
/// suspicions wait; further ones are dropped (a reader that still doubts says so again).
///
/// Threads  The data loop's.
class Suspects {
 public:
  static constexpr std::size_t kMaxWaiting = 256;
  static constexpr std::size_t kSliceBytes = 4 << 20;
  static constexpr std::uint64_t kBytesPerSecond = 256 << 20;

  /// `found` is told of each slot that is corrupt, after the table has been.
  Suspects(Loop& loop, BlockTable& table, std::function<void(const wire::SlotRef&)> found);
  ~Suspects();

  void suspect(const wire::SlotRef& at);
  void stop();

 private:
  struct Check {
    wire::SlotRef at;
    std::span<std::byte> bytes;
    Checksum expected;
    std::size_t done;  ///< bytes hashed
    ChecksumStream sum;
  };

  void next();
  std::size_t hash_slice();
  void condemn(const wire::SlotRef& at);

  Loop& loop_;
  BlockTable& table_;
  std::function<void(const wire::SlotRef&)> found_;
  Timer timer_;
  std::deque<wire::SlotRef> waiting_;
  std::optional<Check> check_;  ///< holds its slot's read open
  bool stopped_ = false;
};

}  // namespace membrain
