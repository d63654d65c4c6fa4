// CopyPool: the few threads on which asynchronous fetches copy.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace membrain {

/// Runs jobs in their order, on up to `threads` threads that start with the first job ("mb-copy").
///
/// Threads  Any.
/// Bounds   kMaxJobs waiting.
class CopyPool {
 public:
  static constexpr std::size_t kMaxJobs = 4096;

  explicit CopyPool(std::uint32_t threads) noexcept : wanted_(threads) {}
  ~CopyPool() { stop(); }
  CopyPool(const CopyPool&) = delete;
  CopyPool& operator=(const CopyPool&) = delete;

  /// False if too many wait, or there are no threads: the job was not taken.
  [[nodiscard]] bool post(std::function<void()> job);
  /// Runs what waits, then ends the threads. Idempotent.
  void stop() noexcept;

 private:
  void run();

  const std::uint32_t wanted_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  std::vector<std::thread> threads_;
  bool stopping_ = false;
};

}  // namespace membrain
