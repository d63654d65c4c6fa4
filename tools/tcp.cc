#include "tools/tcp.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>

#include "base/clock.h"

namespace membrain {
namespace {

constexpr std::size_t kLongestAnswer = std::size_t{16} << 20;

using Addresses = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

/// What `address` stands for; null if no host has that name.
Addresses resolve(const std::string& address, int flags) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos) return {nullptr, ::freeaddrinfo};
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const bool known = ::getaddrinfo(host.c_str(), address.c_str() + colon + 1, &wanted, &found) == 0;
  return {known ? found : nullptr, ::freeaddrinfo};
}

/// Until the socket is ready for `events`; false if it is not by then.
bool ready(const Descriptor& socket, short events, TimePoint deadline) {
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - SteadyClock().now());
    if (left.count() <= 0) return false;
    pollfd wait{socket.fd(), events, 0};
    const int count = ::poll(&wait, 1, static_cast<int>(left.count()));
    if (count > 0) return true;
    if (count < 0 && errno != EINTR) return false;
  }
}

bool send_all(const Descriptor& socket, std::string_view text, TimePoint deadline) {
  while (!text.empty()) {
    if (!ready(socket, POLLOUT, deadline)) return false;
    const ssize_t sent = ::send(socket.fd(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EINTR && errno != EAGAIN) return false;
    if (sent > 0) text.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

/// Up to the end that the other side makes.
std::optional<std::string> receive_all(const Descriptor& socket, TimePoint deadline) {
  std::string text;
  std::array<char, 16384> chunk;
  while (text.size() <= kLongestAnswer && ready(socket, POLLIN, deadline)) {
    const ssize_t got = ::recv(socket.fd(), chunk.data(), chunk.size(), MSG_DONTWAIT);
    if (got == 0) return text;
    if (got < 0 && errno != EINTR && errno != EAGAIN) return std::nullopt;
    if (got > 0) text.append(chunk.data(), static_cast<std::size_t>(got));
  }
  return std::nullopt;
}

}  // namespace

tl::expected<Descriptor, int> bind_tcp(const std::string& address) {
  const Addresses found = resolve(address, AI_PASSIVE);
  if (!found) return tl::unexpected(0);
  Descriptor socket(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return tl::unexpected(errno);
  // Not SO_REUSEPORT: that would hide that the port is taken.
  const int yes = 1;
  ::setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (::bind(socket.fd(), found->ai_addr, found->ai_addrlen) != 0) return tl::unexpected(errno);
  return socket;
}

std::uint16_t bound_port(const Descriptor& socket) noexcept {
  sockaddr_in6 name{};  // the port is where sockaddr_in has it
  socklen_t size = sizeof name;
  if (::getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&name), &size) != 0) return 0;
  return ntohs(name.sin6_port);
}

std::optional<std::string> http_get(const std::string& address, const std::string& path,
                                    std::chrono::milliseconds patience) {
  const TimePoint deadline = SteadyClock().now() + patience;
  const Addresses found = resolve(address, 0);
  if (!found) return std::nullopt;
  const Descriptor socket(
      ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const bool begun =
      ::connect(socket.fd(), found->ai_addr, found->ai_addrlen) == 0 || errno == EINPROGRESS;
  if (!begun || !send_all(socket, "GET " + path + " HTTP/1.0\r\n\r\n", deadline)) {
    return std::nullopt;
  }
  std::optional<std::string> answer = receive_all(socket, deadline);
  if (!answer) return std::nullopt;
  const std::string_view head(*answer);
  const std::size_t end = head.find("\r\n\r\n");
  const std::size_t blank = head.find(' ');
  if (end == std::string::npos || !head.starts_with("HTTP/1.") ||
      head.substr(blank + 1, 4) != "200 ") {
    return std::nullopt;
  }
  return answer->substr(end + 4);
}

}  // namespace membrain
