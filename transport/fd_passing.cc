#include "transport/fd_passing.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

namespace membrain::local {

namespace {

constexpr int kQueuedCallers = 64;
constexpr uid_t kForeignUser = 65534;  // what the kernel shows for ids that are not mapped here

struct Name {
  sockaddr_un address{};
  socklen_t size = 0;

  [[nodiscard]] const sockaddr* get() const noexcept {
    return reinterpret_cast<const sockaddr*>(&address);
  }
};

Result<Name> name_of(std::string_view text) {
  if (text.empty() || text.size() > kMaxNameBytes) {
    return fail(Errc::invalid_argument, "the name of a local socket");
  }
  Name name;
  name.address.sun_family = AF_UNIX;
  std::memcpy(name.address.sun_path + 1, text.data(), text.size());  // byte 0 is 0: abstract
  name.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  return name;
}

Result<Descriptor> open_socket() {
  Descriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return fail(Errc::out_of_capacity, "a local socket", errno);
  return socket;
}

/// Room for one descriptor in a control message.
union Control {
  cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

}  // namespace

Result<Descriptor> listen(std::string_view name) {
  const Result<Name> address = name_of(name);
  if (!address) return fail(address.error());
  Result<Descriptor> socket = open_socket();
  if (!socket) return socket;
  if (::bind(socket->fd(), address->get(), address->size) != 0 ||
      ::listen(socket->fd(), kQueuedCallers) != 0) {
    return fail(Errc::unavailable, "a local socket cannot listen", errno);
  }
  return socket;
}

Result<Descriptor> connect(std::string_view name) {
  const Result<Name> address = name_of(name);
  if (!address) return fail(address.error());
  Result<Descriptor> socket = open_socket();
  if (!socket) return socket;
  if (::connect(socket->fd(), address->get(), address->size) == 0) return socket;
  const bool full = errno == EAGAIN;
  return fail(full ? Errc::out_of_capacity : Errc::unavailable, "a local socket", errno);
}

Descriptor accept(const Descriptor& listener) noexcept {
  return Descriptor(::accept4(listener.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

bool of_this_user(const Descriptor& socket) noexcept {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket.fd(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == ::geteuid() && peer.uid != kForeignUser;
}

bool send(const Descriptor& socket, std::span<const std::byte> packet,
          const Descriptor& file) noexcept {
  iovec bytes{const_cast<std::byte*>(packet.data()), packet.size()};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  Control control{};
  if (file) {
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = file.fd();
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  const ssize_t sent = ::sendmsg(socket.fd(), &message, MSG_NOSIGNAL);
  return sent == static_cast<ssize_t>(packet.size());
}

Received receive(const Descriptor& socket, std::span<std::byte> into) noexcept {
  iovec bytes{into.data(), into.size()};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  Control control{};
  message.msg_control = control.bytes;
  message.msg_controllen = CMSG_LEN(sizeof(int));  // the padding has room for a second
  const ssize_t got = ::recvmsg(socket.fd(), &message, MSG_CMSG_CLOEXEC);
  Received received;
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
    received.state = Received::State::nothing;
    return received;
  }
  Descriptor file;  // an empty packet may bring one too
  const cmsghdr* const rights = got >= 0 ? CMSG_FIRSTHDR(&message) : nullptr;
  if (rights != nullptr && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS &&
      rights->cmsg_len == CMSG_LEN(sizeof(int))) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(rights), sizeof fd);
    file = Descriptor(fd);
  }
  if (got <= 0 || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return received;
  received.state = Received::State::packet;
  received.size = static_cast<std::size_t>(got);
  received.file = std::move(file);
  return received;
}

}  // namespace membrain::local
