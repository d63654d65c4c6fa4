// Logging behind one function. Never on the data path, never a secret.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace membrain {

enum class LogLevel : std::uint8_t { debug, info, warn, error };

/// Lines below `level` are dropped before they are formatted. Any thread.
void set_log_level(LogLevel level) noexcept;
[[nodiscard]] bool log_enabled(LogLevel level) noexcept;
/// The level of that name ("debug", "info", "warn", "error"), or nothing known: `info`.
[[nodiscard]] LogLevel log_level_named(std::string_view name) noexcept;

/// One line to stderr with time, level and thread. Any thread; never throws, and never waits for
/// whoever reads stderr: a line for which a pipe has no room is lost, and the next that fits says
/// how many were.
void log_line(LogLevel level, std::string_view text) noexcept;

/// `log(LogLevel::info, "listening on {}", address)`: checked at compile time.
template <class... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) noexcept {
  if (!log_enabled(level)) return;
  try {
    log_line(level, fmt::format(format, std::forward<Args>(args)...));
  } catch (...) {
    log_line(level, "a log line could not be formatted");
  }
}

}  // namespace membrain
