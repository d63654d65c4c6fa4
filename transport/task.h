// Task<T>: a coroutine that runs on one loop and has one owner.
//
// Shaped by our compilers (see docs/adr/0002-coroutines.md): g++ 12.2 has no symmetric transfer
// below -O2, so a child runs inside await_ready, and only if it did not end at once does
// await_suspend note who waits for it.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "base/check.h"
#include "transport/frame_pool.h"

namespace membrain {

namespace detail {

/// What promises of every T share: who waits, and how the wait ends.
class TaskPromiseCore : public PooledFrame {
 public:
  std::suspend_always initial_suspend() noexcept { return {}; }
  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> ended) noexcept {
      // The resumed parent may destroy `ended`, and this awaiter with it: nothing is touched
      // afterwards.
      if (std::coroutine_handle<> parent = ended.promise().parent_) parent.resume();
    }
    void await_resume() noexcept {}
  };
  FinalAwaiter final_suspend() noexcept { return {}; }
  void unhandled_exception() noexcept { std::terminate(); }
  void set_parent(std::coroutine_handle<> parent) noexcept { parent_ = parent; }

 private:
  std::coroutine_handle<> parent_;
};

template <class T>
class TaskPromise : public TaskPromiseCore {
 public:
  std::coroutine_handle<TaskPromise> get_return_object() noexcept {
    return std::coroutine_handle<TaskPromise>::from_promise(*this);
  }
  template <class U>
  void return_value(U&& value) noexcept {
    value_.emplace(std::forward<U>(value));
  }
  T take() noexcept { return std::move(*value_); }

 private:
  std::optional<T> value_;
};

template <>
class TaskPromise<void> : public TaskPromiseCore {
 public:
  std::coroutine_handle<TaskPromise> get_return_object() noexcept {
    return std::coroutine_handle<TaskPromise>::from_promise(*this);
  }
  void return_void() noexcept {}
  void take() noexcept {}
};

}  // namespace detail

/// A piece of work that starts when it is first awaited (or spawned on a `Loop`) and ends with a
/// `T`.
///
/// Ownership  One owner. Destroying a Task that has started and not ended is a bug and ends the
///            process: its frame may be the destination of bytes in flight.
/// Threads    Runs, and is destroyed, on the thread of its loop.
/// Cost       The frame comes from the thread's FramePool; no allocation per `co_await`.
template <class T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::TaskPromise<T>;

  Task(std::coroutine_handle<promise_type> frame) noexcept
      : frame_(frame) {}  // NOLINT: from promise
  Task(Task&& other) noexcept
      : frame_(std::exchange(other.frame_, nullptr)), started_(other.started_) {}
  Task& operator=(Task&&) = delete;
  ~Task() {
    if (!frame_) return;
    check(!started_ || frame_.done(), "a running Task was destroyed");
    frame_.destroy();
  }

  /// Runs to the first suspension. Once.
  void start() noexcept {
    check(!started_, "a Task was started twice");
    started_ = true;
    frame_.resume();
  }
  [[nodiscard]] bool done() const noexcept { return frame_.done(); }
  /// The result of a done Task. Once.
  T take() noexcept { return frame_.promise().take(); }

  bool await_ready() noexcept {
    start();
    return frame_.done();
  }
  void await_suspend(std::coroutine_handle<> parent) noexcept {
    frame_.promise().set_parent(parent);
  }
  T await_resume() noexcept { return take(); }

 private:
  std::coroutine_handle<promise_type> frame_;
  bool started_ = false;
};

}  // namespace membrain
