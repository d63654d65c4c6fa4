#include "cache/client/copy_queue.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

namespace membrain {

CopyQueue::CopyQueue(const Clock& clock, std::uint32_t threads) noexcept
    : clock_(clock), threads_("mb-copy", threads) {}

bool CopyQueue::post(std::shared_ptr<MixedFetch> fetch) {
  const std::lock_guard lock(mutex_);
  waiting_.push_back(std::move(fetch));
  const bool posted = threads_.post([this] { copy_next(); });
  if (!posted) waiting_.pop_back();
  return posted;
}

/// There is a job for each fetch that was posted: more than fetches, once some were ended.
void CopyQueue::copy_next() {
  std::shared_ptr<MixedFetch> fetch;
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.empty()) return;
    fetch = std::move(waiting_.front());
    waiting_.pop_front();
  }
  fetch->copy([this] { end_overdue(); });
}

void CopyQueue::end_overdue() {
  std::vector<std::shared_ptr<MixedFetch>> overdue;
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.empty()) return;
    const TimePoint now = clock_.now();
    const auto late = std::stable_partition(
        waiting_.begin(), waiting_.end(),
        [now](const std::shared_ptr<MixedFetch>& one) { return now < one->deadline(); });
    std::move(late, waiting_.end(), std::back_inserter(overdue));
    waiting_.erase(late, waiting_.end());
  }
  for (const std::shared_ptr<MixedFetch>& one : overdue) one->give_up(Errc::timed_out);
}

}  // namespace membrain
