#include "tools/output.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <string>

namespace membrain {
namespace {

int stdout_fd = STDOUT_FILENO;
std::atomic<int> stdout_failed = 0;  ///< errno of the first text that was not written

/// As errno, why not all of it could be written; 0 if it was. A descriptor that does not block
/// (whoever shares it may have said so) is waited for.
int write_all(int fd, std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EAGAIN) {
      pollfd room{fd, POLLOUT, 0};
      static_cast<void>(::poll(&room, 1, -1));
    } else if (written < 0 && errno != EINTR) {
      return errno;
    }
    if (written > 0) text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
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
  const int error = write_all(stdout_fd, text);
  int none = 0;
  if (error != 0 && error != EPIPE) stdout_failed.compare_exchange_strong(none, error);
}

int stdout_error() noexcept {
  return stdout_failed;
}

void complain_aloud(std::string_view command, std::string_view text) noexcept {
  std::string line = "membrain";
  if (!command.empty()) line.append(" ").append(command);
  line.append(": ").append(text).append("\n");
  static_cast<void>(write_all(STDERR_FILENO, line));
}

bool stdout_is_terminal() noexcept {
  return ::isatty(stdout_fd) != 0;
}

}  // namespace membrain
