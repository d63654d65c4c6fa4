#include "transport/ucx/socket.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>

#include "transport/ucx/ucx_context.h"

namespace membrain {

namespace {

struct HostPort {
  std::string host;
  std::string port;
};

Result<HostPort> split(std::string_view address) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) return fail(Errc::invalid_argument, "no port in address");
  std::string_view host = address.substr(0, colon);
  const std::string_view port = address.substr(colon + 1);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return fail(Errc::invalid_argument, "an IPv6 host needs brackets");
  }
  std::uint16_t number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc{} || end != port.data() + port.size()) {
    return fail(Errc::invalid_argument, "a port is a number up to 65535");
  }
  if (host.empty()) return fail(Errc::invalid_argument, "no host in address");
  return HostPort{host == "localhost" ? "127.0.0.1" : std::string(host), std::string(port)};
}

/// The answers to a socket that cannot be opened: our limits, or the network's state.
Errc code_of(int error) noexcept {
  const bool full = error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
  return full ? Errc::out_of_capacity : Errc::unavailable;
}

/// The system's resolver. The first of what it knows.
Result<SocketAddress> ask(const HostPort& parts, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(parts.host.c_str(), parts.port.c_str(), &hints, &found);
  if (error != 0) return fail(Errc::unavailable, "getaddrinfo: unknown host", error);
  SocketAddress result;
  std::memcpy(&result.storage, found->ai_addr, found->ai_addrlen);
  result.size = found->ai_addrlen;
  ::freeaddrinfo(found);
  return result;
}

Result<Descriptor> open_socket(int family) {
  Descriptor socket(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return fail(code_of(errno), "socket", errno);
  return socket;
}

}  // namespace

bool SocketAddress::loopback() const noexcept {
  if (storage.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &storage, sizeof v4);
    return (ntohl(v4.sin_addr.s_addr) >> 24) == 127;
  }
  sockaddr_in6 v6{};
  std::memcpy(&v6, &storage, sizeof v6);
  return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
}

bool SocketAddress::everywhere() const noexcept {
  if (storage.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &storage, sizeof v4);
    return v4.sin_addr.s_addr == htonl(INADDR_ANY);
  }
  sockaddr_in6 v6{};
  std::memcpy(&v6, &storage, sizeof v6);
  return IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr);
}

bool is_everywhere(const Address& address) {
  const Result<std::optional<SocketAddress>> number = resolve_number(address);
  return number && *number && (*number)->everywhere();
}

bool is_loopback(const Address& address) {
  const Result<SocketAddress> resolved = resolve(address);
  return resolved && resolved->loopback();
}

Result<std::optional<SocketAddress>> resolve_number(const Address& address) {
  const Result<HostPort> parts = split(address);
  if (!parts) return fail(parts.error());
  const Result<SocketAddress> found = ask(*parts, AI_NUMERICHOST);
  if (!found && found.error().native == EAI_NONAME) return std::nullopt;
  if (!found) return fail(found.error());
  return *found;
}

Result<SocketAddress> resolve(const Address& address) {
  const Result<std::optional<SocketAddress>> number = resolve_number(address);
  if (!number) return fail(number.error());
  if (*number) return **number;
  return ask(*split(address), 0);
}

Result<Descriptor> open_listener(const SocketAddress& address) {
  Result<Descriptor> socket = open_socket(address.storage.ss_family);
  if (!socket) return socket;
  const int on = 1;
  ::setsockopt(socket->fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(socket->fd(), address.get(), address.size) != 0) {
    const int error = errno;
    return fail(code_of(error), error == EADDRINUSE ? "the port is in use" : "bind", error);
  }
  if (::listen(socket->fd(), SOMAXCONN) != 0) {
    const int error = errno;
    return fail(code_of(error), error == EADDRINUSE ? "the port is in use" : "listen", error);
  }
  return socket;
}

std::uint16_t port_of(const Descriptor& socket) noexcept {
  SocketAddress bound;
  bound.size = sizeof bound.storage;
  ::getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&bound.storage), &bound.size);
  in_port_t port = 0;  // at the same place for IPv4 and IPv6
  static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));
  std::memcpy(&port,
              reinterpret_cast<const char*>(&bound.storage) + offsetof(sockaddr_in, sin_port),
              sizeof port);
  return ntohs(port);
}

Address with_port(const Address& address, std::uint16_t port) {
  return address.substr(0, address.rfind(':') + 1) + std::to_string(port);
}

void watch_for_dead_peer(const Descriptor& socket) noexcept {
  const auto set = [&socket](int level, int option, int value) {
    ::setsockopt(socket.fd(), level, option, &value, sizeof value);
  };
  set(IPPROTO_TCP, TCP_KEEPIDLE, 1);   // seconds without a sign of life, until it is asked
  set(IPPROTO_TCP, TCP_KEEPINTVL, 1);  // seconds until it is asked again
  set(IPPROTO_TCP, TCP_KEEPCNT, 2);    // questions: one may be lost on the way
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
}

Result<Descriptor> start_connect(const SocketAddress& address) {
  Result<Descriptor> socket = open_socket(address.storage.ss_family);
  if (!socket) return socket;
  const int on = 1;
  ::setsockopt(socket->fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(socket->fd(), address.get(), address.size) != 0 && errno != EINPROGRESS) {
    return fail(code_of(errno), "connect", errno);
  }
  return socket;
}

int take_error(const Descriptor& socket) noexcept {
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) return errno;
  return error;
}

}  // namespace membrain
