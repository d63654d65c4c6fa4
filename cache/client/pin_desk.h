// PinDesk: where Matches, on any thread, give their pins back.
#pragma once

#include <functional>
#include <mutex>
#include <span>
#include <vector>

#include "base/ids.h"

namespace membrain {

/// Collects released lookup ids and rings the control loop once for all that came since it last
/// looked. Shared by the client and its Matches, so that a Match that is dropped too late finds a
/// closed desk and not a dead client.
///
/// Threads  Any.
class PinDesk {
 public:
  /// Posts to the control loop that `take` has something; false if that failed. Called under the
  /// lock: it must only post.
  using Bell = std::function<bool()>;

  explicit PinDesk(Bell bell) : bell_(std::move(bell)) {}

  void release(std::span<const LookupId> lookups);
  /// Control loop: what was released since the last call.
  [[nodiscard]] std::vector<LookupId> take();

  /// The client goes: later releases are dropped (its pins die with the session).
  void close();

 private:
  std::mutex mutex_;
  std::vector<LookupId> released_;  // guarded by mutex_
  bool rung_ = false;               // guarded by mutex_
  Bell bell_;                       // guarded by mutex_
};

}  // namespace membrain
