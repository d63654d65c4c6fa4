// A process that this one starts, most often of the same program, and talks to by lines of text.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "tools/outcome.h"
#include "tools/signals.h"

namespace membrain {

struct ChildConfig {
  std::string name;                ///< for people: "engine 2"
  std::vector<std::string> words;  ///< the command and its options
  std::string program;             ///< the file to run; empty: this same program
  std::string secret;              ///< travels in the environment; empty for none
  bool errors_too = false;         ///< its standard error comes in as lines as well
  std::string errors_file;         ///< or is appended to this file; empty: it is ours
};

/// One child. Its standard input and output are one socket to us; its standard error is ours. It
/// is a process group of its own, so that Ctrl-C reaches only us, and it ends by itself when its
/// input does, so that it never outlives us.
///
/// Ownership  Destroying it stops the process and waits for it.
/// Threads    One.
class Child {
 public:
  /// Runs the program. MEMBRAIN_* variables are not passed on: options are.
  static Outcome<std::unique_ptr<Child>> start(const ChildConfig& config);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  /// Its lines come in and ours go out here; -1 once it has closed its end.
  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] bool wants_to_write() const noexcept { return fd_ >= 0 && !outgoing_.empty(); }

  /// Queues a line and sends what can be sent now.
  void send_line(std::string_view line);
  /// Sends what was queued.
  void flush();
  /// Reads what is there; false once the other end is closed and all lines have been taken.
  bool fill();
  /// The next whole line, without its end.
  [[nodiscard]] std::optional<std::string> next_line();

  /// Waits for a line. Complains when the child ends, `deadline` passes or a stop is asked for.
  [[nodiscard]] Outcome<std::string> await_line(TimePoint deadline, Signals& signals);

  /// How it ended, in words ("exit status 1", "killed by signal 9"); nothing while it runs. Does
  /// not block.
  [[nodiscard]] std::optional<std::string> ended();

  /// Closes its input, which asks it to end.
  void ask_to_end() noexcept;
  /// Asks it to end, waits for `grace`, and then kills it.
  void stop(std::chrono::milliseconds grace);
  /// Kills it and whatever it has started within its group.
  void kill_now() noexcept;

 private:
  Child(std::string name, pid_t pid, int fd) noexcept;
  [[nodiscard]] bool wait_ended(TimePoint deadline);
  void close_fd() noexcept;

  std::string name_;
  pid_t pid_ = -1;
  int fd_ = -1;
  int pid_fd_ = -1;
  std::string incoming_;
  std::string outgoing_;
  std::optional<std::string> how_ended_;
};

}  // namespace membrain
