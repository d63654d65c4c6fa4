#include "bench/forked.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "base/check.h"

namespace membrain {

namespace {

constexpr int kPatienceMs = 20'000;

}  // namespace

OrderWire::~OrderWire() {
  close();
}

void OrderWire::close() noexcept {
  if (fd_ < 0) return;
  ::shutdown(fd_, SHUT_RDWR);  // children forked later hold it too
  ::close(fd_);
  fd_ = -1;
}

bool OrderWire::send_bytes(const void* bytes, std::size_t size) noexcept {
  return fd_ >= 0 && ::send(fd_, bytes, size, MSG_NOSIGNAL) == static_cast<ssize_t>(size);
}

bool OrderWire::receive_bytes(void* bytes, std::size_t size) noexcept {
  return fd_ >= 0 && ::recv(fd_, bytes, size, 0) == static_cast<ssize_t>(size);
}

Forked::Forked(const Body& body) {
  std::array<int, 2> ends{};
  check(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0,
        "the bench has no descriptors left");
  pid_ = ::fork();
  check(pid_ >= 0, "the bench cannot fork");
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::close(ends[0]);
    int status = 0;
    {
      OrderWire orders(ends[1]);
      status = body(orders);
    }
    ::_exit(status);  // what the parent had begun is the parent's to end
  }
  ::close(ends[1]);
  wire_ = std::make_unique<OrderWire>(ends[0]);
}

Forked::~Forked() {
  wire_->close();
  const int pid_fd = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
  pollfd ended{pid_fd, POLLIN, 0};
  if (pid_fd < 0 || ::poll(&ended, 1, kPatienceMs) != 1) ::kill(pid_, SIGKILL);
  if (pid_fd >= 0) ::close(pid_fd);
  ::waitpid(pid_, nullptr, 0);
}

}  // namespace membrain
