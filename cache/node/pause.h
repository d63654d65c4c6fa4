// Pause: a wait that others can end early.
#pragma once

#include "transport/completion.h"
#include "transport/loop.h"
#include "transport/task.h"

namespace membrain {

/// One coroutine waits on it at a time. Loop thread only.
class Pause {
 public:
  explicit Pause(Loop& loop) noexcept : loop_(loop) {}
  Pause(const Pause&) = delete;
  Pause& operator=(const Pause&) = delete;

  /// Waits until `when`, or until `end`.
  Task<> until(TimePoint when) {
    Completion over(loop_.ready());
    over_ = &over;
    Timer timer(loop_, [this] { end(); });
    timer.arm(when);
    const Result<> ended = co_await over;
    static_cast<void>(ended);
    over_ = nullptr;
  }
  /// Ends the wait that is under way, if one is.
  void end() noexcept {
    if (over_ != nullptr && !over_->done()) over_->finish({});
  }

 private:
  Loop& loop_;
  Completion* over_ = nullptr;
};

}  // namespace membrain
