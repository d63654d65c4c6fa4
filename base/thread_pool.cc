#include "base/thread_pool.h"

#include <pthread.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "base/check.h"

namespace membrain {

ThreadPool::ThreadPool(const char* name, std::uint32_t threads) noexcept
    : name_(name), wanted_(threads) {
  check(::sem_init(&tokens_, 0, 0) == 0, "sem_init");
}

ThreadPool::~ThreadPool() {
  stop();
  ::sem_destroy(&tokens_);
}

bool ThreadPool::post(std::function<void()> job) {
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
  ::sem_post(&tokens_);
  return true;
}

void ThreadPool::stop() noexcept {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  for (std::size_t i = 0; i < threads_.size(); ++i) ::sem_post(&tokens_);
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void ThreadPool::run() {
  pthread_setname_np(pthread_self(), name_);
  while (true) {
    while (::sem_wait(&tokens_) != 0) check(errno == EINTR, "sem_wait");
    std::function<void()> job;
    {
      const std::lock_guard lock(mutex_);
      if (jobs_.empty()) return;  // a token of the end
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

}  // namespace membrain
