// ThreadPool: a few threads for what may take long or wait.
#pragma once

#include <semaphore.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace membrain {

/// Runs jobs in their order, on up to `threads` threads that start with the first job.
///
/// It waits on a semaphore: with two threads or more, the condition variables of glibc before 2.41
/// (Debian 12 has 2.36) can lose the wake-up for a job (sourceware.org bug 25847).
///
/// Threads  Any.
/// Bounds   kMaxJobs waiting.
class ThreadPool {
 public:
  static constexpr std::size_t kMaxJobs = 4096;

  /// `name` (static, at most 15 characters) is what the system shows for its threads.
  ThreadPool(const char* name, std::uint32_t threads) noexcept;
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  /// False if too many wait, or there are no threads: the job was not taken.
  [[nodiscard]] bool post(std::function<void()> job);
  /// Runs what waits, then ends the threads. Idempotent.
  void stop() noexcept;

 private:
  void run();

  const char* const name_;
  const std::uint32_t wanted_;
  sem_t tokens_;  ///< one for each job, and in the end one for each thread
  std::mutex mutex_;
  std::deque<std::function<void()>> jobs_;
  std::vector<std::thread> threads_;
  bool stopping_ = false;
};

}  // namespace membrain
