// The admin page: a request's bytes, then the end of them. It answers or hangs up, and goes on.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <memory>
#include <string>

#include "tests/fuzz/target.h"
#include "tools/admin_http.h"
#include "transport/descriptor.h"

namespace membrain::fuzz {
namespace {

constexpr timeval kPatience{10, 0};
constexpr std::string_view kHealth = "GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n";

enum class Then : std::uint8_t { wait, end };

/// Sends it all, and the end of it if so told; then what comes back until the other end hangs up.
std::string exchange(std::uint16_t port, std::string_view request, Then then) {
  const Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const linger at_once{1, 0};  // no port waits for its connection's last packets
  ::setsockopt(socket.fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  ::setsockopt(socket.fd(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  check(::connect(socket.fd(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0,
        "the admin page does not listen any more");
  // It may have hung up before it has all.
  static_cast<void>(::send(socket.fd(), request.data(), request.size(), MSG_NOSIGNAL));
  if (then == Then::end) ::shutdown(socket.fd(), SHUT_WR);
  std::string answer;
  std::array<char, 4096> chunk;
  for (;;) {
    const ssize_t got = ::recv(socket.fd(), chunk.data(), chunk.size(), 0);
    check(got >= 0 || errno != EAGAIN, "the admin page neither answers nor hangs up");
    if (got <= 0) return answer;
    answer.append(chunk.data(), static_cast<std::size_t>(got));
  }
}

std::uint16_t port_of(const std::string& address) {
  std::uint16_t port = 0;
  const char* const end = address.data() + address.size();
  std::from_chars(address.data() + address.rfind(':') + 1, end, port);
  return port;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::unique_ptr<AdminHttp> page =
      AdminHttp::start("127.0.0.1:0", [] { return Outcome<std::string>("{}"); }).value();
  static const std::uint16_t port = port_of(page->address());
  const std::string answer = exchange(port, text_of(bytes_of(data, size)), Then::end);
  check(answer.empty() || answer.starts_with("HTTP/1."), "an answer that is none");
  check(exchange(port, kHealth, Then::wait).ends_with("ok\n"), "it does not answer any more");
  return 0;
}

}  // namespace membrain::fuzz
