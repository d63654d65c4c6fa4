#include "tools/http_get.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <string_view>

#include "base/clock.h"
#include "transport/ucx/socket.h"

namespace membrain {
namespace {

constexpr std::size_t kLongestAnswer = std::size_t{16} << 20;

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
    const ssize_t sent = ::send(socket.fd(), text.data(), text.size(), MSG_NOSIGNAL);
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
    const ssize_t got = ::recv(socket.fd(), chunk.data(), chunk.size(), 0);
    if (got == 0) return text;
    if (got < 0 && errno != EINTR && errno != EAGAIN) return std::nullopt;
    if (got > 0) text.append(chunk.data(), static_cast<std::size_t>(got));
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> http_get(const std::string& address, const std::string& path,
                                    std::chrono::milliseconds patience) {
  const TimePoint deadline = SteadyClock().now() + patience;
  const Result<SocketAddress> resolved = resolve(address);
  if (!resolved) return std::nullopt;
  const Result<Descriptor> socket = start_connect(*resolved);
  if (!socket || !send_all(*socket, "GET " + path + " HTTP/1.0\r\n\r\n", deadline)) {
    return std::nullopt;
  }
  const std::optional<std::string> answer = receive_all(*socket, deadline);
  if (!answer || !answer->starts_with("HTTP/1.")) return std::nullopt;
  const std::string_view head(*answer);
  const std::size_t end = head.find("\r\n\r\n");
  const std::size_t version_end = std::min(head.find_first_of(" \r"), head.size());
  const bool good = head.substr(version_end).starts_with(" 200 ");
  if (end == std::string_view::npos || !good) return std::nullopt;
  return answer->substr(end + 4);
}

}  // namespace membrain
