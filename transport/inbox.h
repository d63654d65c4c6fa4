// Inbox: how other threads reach a loop.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "membrain/result.h"

namespace membrain {

/// A bounded queue of jobs that a loop runs on its own thread, in order.
class Inbox {
 public:
  static constexpr std::size_t kMaxJobs = 1 << 20;

  /// Runs `job()` on the loop's thread in one of its next turns. Any thread.
  /// `out_of_capacity` when kMaxJobs wait already; the job is dropped then.
  template <class Callable>
  Result<> post(Callable job) {
    return push(std::make_unique<Concrete<Callable>>(std::move(job)));
  }

  /// Loop side: runs what had arrived when it was called; what the jobs post waits for the next
  /// run. True if there was anything. Jobs never run are destroyed with the inbox.
  bool run();
  [[nodiscard]] bool empty() const noexcept { return !pending_.load(std::memory_order_acquire); }

  /// How a sleeping loop is woken: called by `post`, from any thread and under the inbox's lock,
  /// when the inbox was empty. Set before the first post; must outlive the inbox.
  class Waker {
   public:
    virtual void wake() noexcept = 0;

   protected:
    ~Waker() = default;
  };
  void set_waker(Waker* waker) noexcept { waker_ = waker; }

 private:
  struct Job {
    virtual ~Job() = default;
    virtual void run() = 0;
  };
  template <class Callable>
  struct Concrete final : Job {
    explicit Concrete(Callable callable) : callable_(std::move(callable)) {}
    void run() override { callable_(); }
    Callable callable_;
  };
  Result<> push(std::unique_ptr<Job> job);

  std::mutex mutex_;
  std::vector<std::unique_ptr<Job>> jobs_;     // guarded by mutex_
  std::vector<std::unique_ptr<Job>> running_;  // loop thread only
  std::atomic<bool> pending_ = false;
  Waker* waker_ = nullptr;
};

}  // namespace membrain
