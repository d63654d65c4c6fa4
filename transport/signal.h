// Signal: how a coroutine that waits for several things at once is told that one of them happened.
#pragma once

#include <coroutine>
#include <utility>

#include "base/check.h"
#include "transport/completion.h"

namespace membrain {

/// `co_await signal` goes on after the next `raise`, or at once if there was one since the last
/// wait. The waiter looks by itself at what has changed; a wake-up without a change is possible.
///
/// Ownership  Whoever waits owns it. One waiter.
/// Threads    Loop thread only.
class Signal {
 public:
  explicit Signal(ReadyQueue& ready) noexcept : ready_(ready) {}
  Signal(const Signal&) = delete;
  Signal& operator=(const Signal&) = delete;
  ~Signal() { check(!waiter_, "a Signal was destroyed under its waiter"); }

  void raise() noexcept {
    if (waiter_) {
      ready_.push(std::exchange(waiter_, nullptr));
    } else {
      raised_ = true;
    }
  }

  [[nodiscard]] bool await_ready() noexcept { return std::exchange(raised_, false); }
  void await_suspend(std::coroutine_handle<> waiter) noexcept {
    check(!waiter_, "a Signal has one waiter");
    waiter_ = waiter;
  }
  void await_resume() const noexcept {}

 private:
  ReadyQueue& ready_;
  std::coroutine_handle<> waiter_;
  bool raised_ = false;
};

}  // namespace membrain
