#include "tools/signals.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "base/check.h"

namespace membrain {

namespace {

sigset_t stop_signals() noexcept {
  sigset_t stops;
  sigemptyset(&stops);
  sigaddset(&stops, SIGINT);
  sigaddset(&stops, SIGTERM);
  return stops;
}

}  // namespace

Signals::Signals() {
  const sigset_t stops = stop_signals();
  pthread_sigmask(SIG_BLOCK, &stops, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  fd_ = signalfd(-1, &stops, SFD_CLOEXEC | SFD_NONBLOCK);
  check(fd_ >= 0, "signalfd");
}

Signals::~Signals() {
  ::close(fd_);
}

bool Signals::asked_again() noexcept {
  signalfd_siginfo info{};
  const bool came = ::read(fd_, &info, sizeof info) == static_cast<ssize_t>(sizeof info);
  asked_ = asked_ || came;
  return came;
}

bool Signals::stop_asked() noexcept {
  static_cast<void>(asked_again());
  return asked_;
}

void Signals::wait_for_stop(bool stdin_too) noexcept {
  std::array<pollfd, 2> fds{{{fd_, POLLIN, 0}, {stdin_too ? STDIN_FILENO : -1, POLLIN, 0}}};
  while (!stop_asked()) {
    if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return;
    if (fds[1].revents == 0) continue;
    std::array<char, 256> ignored{};
    if (::read(STDIN_FILENO, ignored.data(), ignored.size()) <= 0) return;
  }
}

void yield_signals() noexcept {
  const sigset_t stops = stop_signals();
  std::signal(SIGPIPE, SIG_DFL);
  pthread_sigmask(SIG_UNBLOCK, &stops, nullptr);
}

}  // namespace membrain
