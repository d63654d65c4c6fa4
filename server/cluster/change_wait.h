// Waits for changes of a KvState that lives in this process.
#pragma once

#include <set>
#include <string>

#include "server/cluster/kv_state.h"
#include "transport/completion.h"
#include "transport/loop.h"
#include "transport/task.h"

namespace membrain {

/// Threads  One.
class ChangeWaits {
 public:
  explicit ChangeWaits(Loop& loop) noexcept : loop_(loop) {}
  ChangeWaits(const ChangeWaits&) = delete;
  ChangeWaits& operator=(const ChangeWaits&) = delete;

  /// Coordination::changed, on `state`.
  Task<> wait(KvState& state, std::string prefix, Revision after, TimePoint deadline) {
    Completion over(loop_.ready());
    const auto end = [&over] {
      if (!over.done()) over.finish({});
    };
    Timer timer(loop_, end);
    timer.arm(deadline);
    waiting_.insert(&over);
    const KvState::WatchId watch = state.watch(std::move(prefix), after, end);
    const Result<> ended = co_await over;
    static_cast<void>(ended);
    state.unwatch(watch);
    waiting_.erase(&over);
  }
  /// Ends all.
  void end() noexcept {
    for (Completion* const over : waiting_) {
      if (!over->done()) over->finish({});
    }
  }
  [[nodiscard]] bool idle() const noexcept { return waiting_.empty(); }

 private:
  Loop& loop_;
  std::set<Completion*> waiting_;
};

}  // namespace membrain
