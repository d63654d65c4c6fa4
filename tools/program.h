// What every command finds when it runs.
#pragma once

#include <string>

#include "membrain/result.h"
#include "tools/command_line.h"
#include "tools/common_options.h"
#include "tools/signals.h"

namespace membrain {

/// Made once by main, before any thread. Commands borrow it.
struct Program {
  Signals signals;
  Environment environment;
  CommonOptions common;
};

// One for each command: its options bound to values that live as long as the Command does.
[[nodiscard]] Command server_command(Program& program);
[[nodiscard]] Command node_command(Program& program);
[[nodiscard]] Command status_command(Program& program);
[[nodiscard]] Command ctl_command(Program& program);
[[nodiscard]] Command replay_command(Program& program);
[[nodiscard]] Command demo_command(Program& program);
[[nodiscard]] Command bench_command(Program& program);
[[nodiscard]] Command doctor_command(Program& program);
[[nodiscard]] Command engine_command(Program& program);

/// Says `text` on stderr as `command`; the failure to return.
Exit failed(const char* command, const std::string& text);

/// "unavailable (nobody listens there)".
[[nodiscard]] std::string in_words(const Error& error);

}  // namespace membrain
