// A process of a torture run that is killed, stopped and started again.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "tools/child.h"
#include "tools/outcome.h"

namespace membrain {

/// Ownership  Destroying it ends the process. Threads: one.
class Resident {
 public:
  explicit Resident(ChildConfig config) : config_(std::move(config)) {}

  [[nodiscard]] const std::string& name() const noexcept { return config_.name; }
  [[nodiscard]] ChildConfig& config() noexcept { return config_; }
  [[nodiscard]] pid_t pid() const noexcept { return process_ ? process_->pid() : -1; }
  /// Null before `start` and after `kill`.
  [[nodiscard]] Child* process() noexcept { return process_.get(); }
  [[nodiscard]] bool running() const noexcept { return process_ != nullptr && !stopped_; }
  [[nodiscard]] bool stopped() const noexcept { return stopped_; }

  Outcome<> start();
  /// SIGKILL, and waits for its end.
  void kill();
  /// SIGSTOP and SIGCONT.
  void stop();
  void go_on();
  /// Asks it to end, as at the end of a run; `finish` waits for that.
  void ask_to_end();
  void finish();

  /// It has said that it is ready ("membrain ... ready ..."). Takes its lines.
  [[nodiscard]] bool ready();
  /// How it ended by itself, in words, once.
  [[nodiscard]] std::optional<std::string> died();
  /// Open descriptors; 0 if it does not run.
  [[nodiscard]] std::size_t descriptors() const;

 private:
  ChildConfig config_;
  std::unique_ptr<Child> process_;
  bool stopped_ = false;
  bool ready_ = false;
};

}  // namespace membrain
