// How the raw UCX programs of the benchmarks make progress: as Loop does.
#pragma once

#include <poll.h>
#include <ucp/api/ucp.h>

#include <algorithm>
#include <chrono>

#include "base/clock.h"
#include "transport/loop.h"

namespace membrain {

/// Turns a worker while `going()`: progress, a spin that adapts as Loop::run's does, then sleep
/// until the worker's descriptor is readable.
template <class Going>
void turn_while(ucp_worker_h worker, Going going) {
  const LoopConfig as_the_loop;
  constexpr int kLongestSleepMs = 50;
  Duration spin = as_the_loop.spin;
  int event_fd = -1;
  ucp_worker_get_efd(worker, &event_fd);
  bool idle = false;
  TimePoint idle_since{};
  while (going()) {
    if (ucp_worker_progress(worker) != 0) {
      if (idle) spin = std::min(as_the_loop.spin, spin * 2);
      idle = false;
      continue;
    }
    const TimePoint now = std::chrono::steady_clock::now();
    if (!idle) idle_since = now;
    idle = true;
    if (now - idle_since < spin) continue;
    if (ucp_worker_arm(worker) != UCS_OK) continue;
    pollfd events{event_fd, POLLIN, 0};
    ::poll(&events, 1, kLongestSleepMs);
    const bool brief = std::chrono::steady_clock::now() - now < as_the_loop.spin;
    spin = brief ? std::min(as_the_loop.spin, spin * 2)
                 : std::max<Duration>(as_the_loop.spin / 16, spin / 2);
    idle = false;
  }
}

}  // namespace membrain
