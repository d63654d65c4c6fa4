#include "tools/output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <string>

namespace membrain {
namespace {

int stdout_fd = STDOUT_FILENO;

void write_all(int fd, std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno != EINTR) return;
    if (written > 0) text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

void claim_stdout() noexcept {
  const int kept = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
  if (kept < 0) return;
  stdout_fd = kept;
  static_cast<void>(::dup2(STDERR_FILENO, STDOUT_FILENO));
}

void yield_stdout() noexcept {
  static_cast<void>(::dup2(stdout_fd, STDOUT_FILENO));
}

void say(std::string_view text) noexcept {
  write_all(stdout_fd, text);
}

void complain_aloud(std::string_view command, std::string_view text) noexcept {
  std::string line = "membrain";
  if (!command.empty()) line.append(" ").append(command);
  line.append(": ").append(text).append("\n");
  write_all(STDERR_FILENO, line);
}

bool stdout_is_terminal() noexcept {
  return ::isatty(stdout_fd) != 0;
}

}  // namespace membrain
