// What tests need to see how a coroutine ends from plain code.
#pragma once

#include <optional>
#include <utility>

#include "transport/task.h"

namespace membrain {

/// Spawned on a loop: `into` holds what the task yields, once it has ended. Outlived by `into`.
template <class T>
Task<> put_into(Task<T> task, std::optional<T>& into) {
  into = co_await task;
}

/// Likewise for a task that yields nothing.
inline Task<> note_end(Task<> task, bool& ended) {
  co_await task;
  ended = true;
}

}  // namespace membrain
