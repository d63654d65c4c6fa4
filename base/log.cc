#include "base/log.h"

#include <poll.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

namespace membrain {

namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warn:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

/// stderr, which may be a pipe that nobody empties: whoever logs never waits for its reader. Lines
/// for which there is no room are counted, and their number is said when there is room again.
class PatientStderr final : public spdlog::sinks::base_sink<std::mutex> {
 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    if (lost_ != 0 && has_room()) {
      const std::string count = fmt::format("{} lines were lost: nobody read this log", lost_);
      spdlog::details::log_msg notice(message.time, {}, message.logger_name, spdlog::level::warn,
                                      count);
      notice.thread_id = message.thread_id;
      formatter_->format(notice, line);
      lost_ = 0;
    }
    formatter_->format(message, line);
    if (!put({line.data(), line.size()})) ++lost_;
  }

  void flush_() override {}

  static bool has_room() noexcept {
    pollfd out{STDERR_FILENO, POLLOUT, 0};
    return ::poll(&out, 1, 0) == 1 && (out.revents & POLLOUT) != 0;
  }

  /// In pieces that a pipe with room takes whole (pipe(7)). False: not one of them was taken.
  static bool put(std::string_view text) noexcept {
    bool any = false;
    while (!text.empty() && has_room()) {
      const ssize_t put =
          ::write(STDERR_FILENO, text.data(), std::min<std::size_t>(text.size(), PIPE_BUF));
      if (put < 0 && errno != EINTR) break;
      if (put < 0) continue;
      any = true;
      text.remove_prefix(static_cast<std::size_t>(put));
    }
    return any;
  }

  std::uint64_t lost_ = 0;
};

/// The one logger: made at first use, never destroyed, so that a line at exit is still safe.
spdlog::logger& logger() {
  static spdlog::logger* const instance = [] {
    auto* made = new spdlog::logger("membrain", std::make_shared<PatientStderr>());
    made->set_pattern("%Y-%m-%d %H:%M:%S.%e %L [%t] %v");
    made->set_level(spdlog::level::info);
    made->flush_on(spdlog::level::debug);
    return made;
  }();
  return *instance;
}

}  // namespace

void set_log_level(LogLevel level) noexcept {
  logger().set_level(to_spdlog(level));
}

bool log_enabled(LogLevel level) noexcept {
  return logger().should_log(to_spdlog(level));
}

LogLevel log_level_named(std::string_view name) noexcept {
  if (name == "debug") return LogLevel::debug;
  if (name == "warn") return LogLevel::warn;
  if (name == "error") return LogLevel::error;
  return LogLevel::info;
}

void log_line(LogLevel level, std::string_view text) noexcept {
  logger().log(to_spdlog(level), spdlog::string_view_t(text.data(), text.size()));
}

}  // namespace membrain
