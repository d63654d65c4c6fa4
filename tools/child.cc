#include "tools/child.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "tools/command_line.h"

namespace membrain {
namespace {

TimePoint now() {
  return SteadyClock().now();
}

int milliseconds_until(TimePoint deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now());
  if (left.count() <= 0) return 0;
  return static_cast<int>(std::min<std::int64_t>(left.count(), 60'000));
}

/// Our variables without those that are options; the secret is ours to give.
std::vector<std::string> environment_for(const std::string& secret) {
  std::vector<std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!std::string_view(*entry).starts_with("MEMBRAIN_")) variables.emplace_back(*entry);
  }
  if (!secret.empty()) variables.push_back(std::string(kSecretVariable) + "=" + secret);
  return variables;
}

std::vector<char*> pointers_to(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

/// In a group of its own, no signal blocked, SIGPIPE as usual, `socket` as input and output.
int spawn(pid_t& pid, const ChildConfig& config, int socket) {
  const std::string program = config.program.empty() ? "/proc/self/exe" : config.program;
  std::vector<std::string> words{config.program.empty() ? "membrain" : config.program};
  words.insert(words.end(), config.words.begin(), config.words.end());
  std::vector<std::string> variables = environment_for(config.secret);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, socket, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, socket, STDOUT_FILENO);
  if (config.errors_too) posix_spawn_file_actions_adddup2(&files, socket, STDERR_FILENO);
  if (!config.errors_file.empty()) {
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, config.errors_file.c_str(),
                                     O_WRONLY | O_CREAT | O_APPEND, 0600);
  }
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  sigset_t usual;
  sigemptyset(&usual);
  sigaddset(&usual, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &usual);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const int failed = posix_spawn(&pid, program.c_str(), &files, &attributes,
                                 pointers_to(words).data(), pointers_to(variables).data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return failed;
}

/// glibc's own declaration lacks C linkage (2.36).
int open_pid_fd(pid_t pid) {
  return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
}

}  // namespace

Outcome<std::unique_ptr<Child>> Child::start(const ChildConfig& config) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return complain("{} cannot be started: {}", config.name, std::strerror(errno));
  }
  pid_t pid = -1;
  const int failed = spawn(pid, config, ends[1]);
  ::close(ends[1]);
  if (failed != 0) {
    ::close(ends[0]);
    return complain("{} cannot be started: {}", config.name, std::strerror(failed));
  }
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return std::unique_ptr<Child>(new Child(config.name, pid, ends[0]));
}

Child::Child(std::string name, pid_t pid, int fd) noexcept
    : name_(std::move(name)), pid_(pid), fd_(fd), pid_fd_(open_pid_fd(pid)) {}

Child::~Child() {
  stop(std::chrono::seconds(10));
  if (pid_fd_ >= 0) ::close(pid_fd_);
}

void Child::close_fd() noexcept {
  if (const int fd = std::exchange(fd_, -1); fd >= 0) ::close(fd);
}

void Child::send_line(std::string_view line) {
  outgoing_.append(line).append("\n");
  flush();
}

void Child::flush() {
  while (wants_to_write()) {
    const ssize_t sent = ::send(fd_, outgoing_.data(), outgoing_.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) {
      outgoing_.clear();  // it has ended: reading tells
      return;
    }
    outgoing_.erase(0, static_cast<std::size_t>(sent));
  }
}

bool Child::fill() {
  std::array<char, 65536> portion{};
  while (fd_ >= 0) {
    const ssize_t got = ::recv(fd_, portion.data(), portion.size(), 0);
    if (got > 0) {
      incoming_.append(portion.data(), static_cast<std::size_t>(got));
    } else if (got < 0 && errno == EINTR) {
      continue;
    } else if (got < 0 && errno == EAGAIN) {
      return true;
    } else {
      close_fd();
    }
  }
  return incoming_.find('\n') != std::string::npos;
}

std::optional<std::string> Child::next_line() {
  const std::size_t end = incoming_.find('\n');
  if (end == std::string::npos) return std::nullopt;
  std::string line = incoming_.substr(0, end);
  incoming_.erase(0, end + 1);
  return line;
}

Outcome<std::string> Child::await_line(TimePoint deadline, Signals& signals) {
  while (true) {
    const bool open = fill();
    if (std::optional<std::string> line = next_line()) return std::move(*line);
    if (!open) {
      static_cast<void>(wait_ended(now() + std::chrono::seconds(2)));
      return complain("{} ended before it was ready ({})", name_,
                      ended().value_or("it closed its output"));
    }
    if (signals.stop_asked()) return complain("interrupted");
    if (now() >= deadline) return complain("{} was not ready in time", name_);
    std::array<pollfd, 2> fds{{{fd_, POLLIN, 0}, {signals.fd(), POLLIN, 0}}};
    static_cast<void>(::poll(fds.data(), fds.size(), milliseconds_until(deadline)));
  }
}

std::optional<std::string> Child::ended() {
  if (how_ended_) return how_ended_;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  how_ended_ = WIFSIGNALED(status) ? fmt::format("killed by signal {}", WTERMSIG(status))
                                   : fmt::format("exit status {}", WEXITSTATUS(status));
  return how_ended_;
}

bool Child::wait_ended(TimePoint deadline) {
  while (!ended()) {
    if (now() >= deadline) return false;
    // Without a pidfd (an old kernel) this looks again every 20 ms.
    pollfd fd{pid_fd_, POLLIN, 0};
    const int longest = pid_fd_ >= 0 ? milliseconds_until(deadline) : 20;
    static_cast<void>(::poll(&fd, 1, longest));
  }
  return true;
}

void Child::ask_to_end() noexcept {
  if (fd_ >= 0) ::shutdown(fd_, SHUT_WR);
}

void Child::kill_now() noexcept {
  if (!how_ended_) ::kill(-pid_, SIGKILL);  // it leads its group
}

void Child::stop(std::chrono::milliseconds grace) {
  ask_to_end();
  if (!wait_ended(now() + grace)) {
    kill_now();
    static_cast<void>(wait_ended(now() + std::chrono::seconds(10)));
  }
  close_fd();
}

}  // namespace membrain
