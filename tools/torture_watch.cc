#include "tools/torture_watch.h"

#include <algorithm>

namespace membrain {

Disturbance TortureWatch::since(std::chrono::seconds ago, TimePoint now, bool ends_pins) const {
  const TimePoint last = before_ ? last_ : now;
  return {(last - ago).time_since_epoch().count(), (now + kAfter).time_since_epoch().count(),
          ends_pins};
}

std::vector<Disturbance> TortureWatch::see(TimePoint now,
                                           const std::optional<LeaderStatus>& status) {
  std::vector<Disturbance> found;
  if (!status) {
    found.push_back(since(kLeaseAgo, now, false));
    return found;
  }
  const bool another = before_ && before_->epoch != status->epoch;
  if (another) found.push_back(since(kLeaseAgo, now, false));
  // A term begins to count anew.
  const bool same = before_ && !another;
  const auto grown = [&](const char* name) {
    const std::uint64_t was = same ? before_->counter(name) : 0;
    return status->counter(name) - std::min(was, status->counter(name));
  };
  if (grown("nodes_lost") > 0 || status->counter("nodes") < nodes_) {
    found.push_back(since(kNodeAgo, now, true));
  }
  std::erase_if(expected_, [now](TimePoint until) { return until < now; });
  const std::uint64_t ended = grown("sessions_expired");
  if (ended > expected_.size()) found.push_back(since(kSessionAgo, now, true));
  const std::size_t ours = std::min<std::size_t>(ended, expected_.size());
  expected_.erase(expected_.begin(), expected_.begin() + static_cast<std::ptrdiff_t>(ours));
  last_ = now;
  before_ = status;
  return found;
}

}  // namespace membrain
