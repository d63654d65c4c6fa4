// Names of hosts, looked up where waiting hurts nobody.
#pragma once

#include <functional>

#include "transport/loop.h"
#include "transport/task.h"
#include "transport/ucx/socket.h"

namespace membrain {

/// What a lookup does on its thread: `resolve`, but for tests.
using NameLook = std::function<Result<SocketAddress>(const Address&)>;

/// As `resolve`, but a name is looked up on a thread of its own: where a name server does not
/// answer, the system takes many seconds, and the loop has heartbeats to send. Numbers are there at
/// once. `timed_out` at the deadline; `out_of_capacity` while 16 lookups of this process go on.
///
/// Ownership  A lookup that nobody waits for any more ends by itself: `look` owns what it needs.
/// Threads    The loop's.
Task<Result<SocketAddress>> look_up(Loop& loop, Address address, TimePoint deadline,
                                    NameLook look = resolve);

}  // namespace membrain
