// A loop with a thread of its own: the shell in which services run.
#pragma once

#include <string>
#include <thread>

#include "base/clock.h"
#include "transport/loop.h"
#include "transport/task.h"

namespace membrain {

/// Ownership  Owns loop and thread. `stop` before what lives on the loop goes; destroying stops.
/// Threads    Constructed, started and stopped by one thread.
class LoopThread {
 public:
  /// `name` is what `top -H` shows: at most 15 characters.
  explicit LoopThread(std::string name);
  ~LoopThread();
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;

  [[nodiscard]] Loop& loop() noexcept { return loop_; }
  void start();
  /// Runs `task` on the loop, which must be running, and returns when it has ended.
  void run(Task<> task);
  void stop();

 private:
  std::string name_;
  SteadyClock clock_;
  Loop loop_;
  std::thread thread_;
};

}  // namespace membrain
