// What an Operation shares with the loop that carries it out.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "membrain/client.h"
#include "membrain/result.h"
#include "transport/loop.h"

namespace membrain::detail {

/// The part that does not depend on the result.
///
/// Threads  Any: everything below the mutex is guarded by it.
struct OperationState {
  virtual ~OperationState() = default;

  /// With `Client::Threads::caller`: the loop that whoever waits must drive. Else null. Set before
  /// it is shared.
  Loop* driven = nullptr;

  std::mutex mutex;
  std::condition_variable ended;
  bool done = false;
  std::function<void()> take_back;  ///< asks the loop to stop it; called under the mutex
  std::function<void()> told;       ///< called once it is done, not under the mutex

  [[nodiscard]] bool is_done();
  /// Calls it when that is so.
  void tell(std::function<void()> whom);
  /// After `done` was set, without the mutex: wakes and tells whoever wants to know.
  void announce();
  /// Ends when it is done.
  void await();
};

/// An operation's result, once.
template <class T>
struct Outcome final : OperationState {
  std::optional<Result<T>> result;  // guarded by the mutex

  /// The first word counts; a later result is dropped.
  void finish(Result<T> value) {
    {
      const std::lock_guard lock(mutex);
      if (done) return;
      settle(std::move(value));
    }
    announce();
  }
  /// `finish`, for who holds the mutex and announces.
  void settle(Result<T> value) {
    result.emplace(std::move(value));
    take_back = nullptr;
    done = true;
  }
  /// The result of a done operation. Once.
  Result<T> take() {
    const std::lock_guard lock(mutex);
    std::optional<Result<T>> taken = std::exchange(result, std::nullopt);
    if (!taken) return fail(Errc::invalid_argument, "an operation is waited for once");
    return std::move(*taken);
  }
};

}  // namespace membrain::detail
