#include "cache/client/copy_pool.h"

#include <pthread.h>

#include <system_error>
#include <utility>

namespace membrain {

bool CopyPool::post(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ || jobs_.size() >= kMaxJobs) return false;
    try {
      while (threads_.size() < wanted_) threads_.emplace_back([this] { run(); });
    } catch (const std::system_error&) {
      if (threads_.empty()) return false;  // those that there are do the work
    }
    if (threads_.empty()) return false;
    jobs_.push_back(std::move(job));
  }
  changed_.notify_one();
  return true;
}

void CopyPool::stop() noexcept {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void CopyPool::run() {
  pthread_setname_np(pthread_self(), "mb-copy");
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    const std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    lock.lock();
  }
}

}  // namespace membrain
