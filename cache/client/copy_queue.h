// CopyQueue: fetches that wait for a thread that copies.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>

#include "base/clock.h"
#include "base/thread_pool.h"
#include "cache/client/mapped_fetch.h"

namespace membrain {

/// Copies fetches in their order. One whose deadline passes while it waits is ended by a thread
/// that copies another, after the block which that is at.
///
/// Threads  Any.
/// Bounds   As its ThreadPool.
class CopyQueue {
 public:
  CopyQueue(const Clock& clock, std::uint32_t threads) noexcept;

  /// False: too many wait, or there are no threads.
  [[nodiscard]] bool post(std::shared_ptr<MixedFetch> fetch);
  /// Copies what waits, then ends the threads. Idempotent.
  void stop() noexcept { threads_.stop(); }

 private:
  void copy_next();
  void end_overdue();

  const Clock& clock_;
  std::mutex mutex_;
  std::deque<std::shared_ptr<MixedFetch>> waiting_;
  ThreadPool threads_;  ///< last: its threads use the rest
};

}  // namespace membrain
