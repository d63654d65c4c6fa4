// What a test can make the fake driver do.
#pragma once

#include <cstdint>

#include "transport/cuda/api.h"

namespace membrain::cuda::fake {

/// Devices from now on.
void set_devices(int count);
/// The call of the driver after `skip` others from now on answers `status`; one at a time.
void fail_call(std::uint64_t skip, Status status);
/// Calls so far.
std::uint64_t calls();
/// No work of any stream is begun while it is paused.
void pause(bool paused);
/// Waits until all work is done that can be done: for tests whose clock does not run by itself.
void settle();
/// The device fails, as after a wild access of a kernel: every call fails, and what was queued,
/// host calls too, never happens.
void break_down();
/// Some thread captures a graph from now on, in the mode that is every thread's at first. Calls
/// that could be unsafe amid that fail in threads of that mode, and spoil it.
void begin_capture();
/// True if nothing has spoiled it.
[[nodiscard]] bool end_capture();
/// A new driver in a new process, so to say.
void repair();
/// Whether it is in memory that the driver gave out on a device.
bool is_device(const void* memory);
/// Streams, events, contexts, modules and memory that were not given back.
std::size_t owned();

}  // namespace membrain::cuda::fake
