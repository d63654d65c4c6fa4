#include "transport/inbox.h"

namespace membrain {

Result<> Inbox::push(std::unique_ptr<Job> job) {
  const std::lock_guard lock(mutex_);
  if (jobs_.size() >= kMaxJobs) return fail(Errc::out_of_capacity, "inbox");
  const bool was_empty = jobs_.empty();
  jobs_.push_back(std::move(job));
  pending_.store(true, std::memory_order_release);
  // Under the lock: once it is released, the job may run and end the life of this inbox.
  if (was_empty && waker_ != nullptr) waker_->wake();
  return {};
}

bool Inbox::run() {
  if (empty()) return false;
  {
    const std::lock_guard lock(mutex_);
    running_.swap(jobs_);
    pending_.store(false, std::memory_order_relaxed);
  }
  for (std::unique_ptr<Job>& job : running_) {
    job->run();
    job.reset();
  }
  running_.clear();
  return true;
}

}  // namespace membrain
