// Ctrl-C and SIGTERM as something to wait for.
#pragma once

#include "base/clock.h"

namespace membrain {

/// From its construction on, SIGINT and SIGTERM no longer end the process: they make `fd` readable.
/// SIGPIPE is ignored.
///
/// Threads  Construct it before any thread starts; threads inherit what it does.
class Signals {
 public:
  Signals();
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  [[nodiscard]] int fd() const noexcept { return fd_; }
  /// One has come. Stays true.
  [[nodiscard]] bool stop_asked() noexcept;
  /// One more has come since this, or `stop_asked`, was asked last.
  [[nodiscard]] bool asked_again() noexcept;
  /// Blocks until one has come or, with `stdin_too`, standard input has ended.
  void wait_for_stop(bool stdin_too) noexcept;

 private:
  int fd_ = -1;
  bool asked_ = false;
};

/// Undoes what `Signals` did to the process, for a program that takes this one's place.
void yield_signals() noexcept;

}  // namespace membrain
