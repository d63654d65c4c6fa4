// NextTurn: how a coroutine with a lot to compute lets the loop do something else in between.
#pragma once

#include <coroutine>

#include "transport/completion.h"

namespace membrain {

/// `co_await next_turn(ready)` goes on in the loop's next turn, after what has arrived meanwhile.
///
/// Threads  Loop thread only.
/// Cost     A turn of the loop: about a microsecond when nothing has arrived.
class NextTurn {
 public:
  explicit NextTurn(ReadyQueue& ready) noexcept : ready_(ready) {}
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) { ready_.push(waiter); }
  void await_resume() const noexcept {}

 private:
  ReadyQueue& ready_;
};

[[nodiscard]] inline NextTurn next_turn(ReadyQueue& ready) noexcept {
  return NextTurn(ready);
}

}  // namespace membrain
