// Bell: how another thread tells a coroutine that something is over.
#pragma once

#include <chrono>
#include <memory>

#include "transport/loop.h"
#include "transport/signal.h"
#include "transport/task.h"

namespace membrain {

/// `ring` from any thread makes the coroutine in `until` look again. A ring may be lost (a full
/// inbox, a GPU that has failed), so it also looks by itself, every kLook.
///
/// Ownership  Shared with rings under way; the loop outlives it.
/// Threads    `ring`: any. `until`: the loop's, one at a time.
class Bell : public std::enable_shared_from_this<Bell> {
 public:
  static constexpr Duration kLook = std::chrono::milliseconds(5);

  explicit Bell(Loop& loop)
      : loop_(loop), rung_(loop.ready()), look_(loop, [this] { rung_.raise(); }) {}

  void ring() {
    static_cast<void>(loop_.inbox().post([self = shared_from_this()] { self->rung_.raise(); }));
  }
  /// Until `over()`.
  template <class Over>
  Task<> until(Over over) {
    while (!over()) {
      look_.arm(loop_.now() + kLook);
      co_await rung_;
    }
    look_.cancel();
  }

 private:
  Loop& loop_;
  Signal rung_;
  Timer look_;
};

}  // namespace membrain
