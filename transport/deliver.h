// deliver: hands a job to another loop, whatever its inbox holds.
#pragma once

#include <chrono>
#include <utility>

#include "transport/loop.h"
#include "transport/signal.h"
#include "transport/task.h"

namespace membrain {

/// Posts until there is room in the other loop's inbox. Runs on the loop `here`.
template <class Job>
Task<> deliver(Loop& here, Loop& there, Job job) {
  constexpr Duration kPause = std::chrono::milliseconds(1);
  Signal again(here.ready());
  Timer timer(here, [&again] { again.raise(); });
  while (!there.inbox().post(job)) {
    timer.arm(here.now() + kPause);
    co_await again;
  }
}

}  // namespace membrain
