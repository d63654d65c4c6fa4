#include "tools/free_port.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <fstream>
#include <random>

#include "transport/descriptor.h"

namespace membrain {

namespace {

constexpr std::uint32_t kLowest = 10'240;   // below are the ports of well-known services
constexpr std::uint32_t kEnough = 4'096;    // ports, so that two processes seldom try the same
constexpr std::uint32_t kHighest = 32'767;  // Linux takes outgoing ports from 32768 on
constexpr int kTries = 64;

/// The first port that the kernel hands out by itself.
std::uint32_t first_of_kernel() {
  std::uint32_t first = 0;
  std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> first;
  return first;
}

bool can_be_bound(std::uint32_t port) {
  const Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  return ::bind(socket.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

}  // namespace

std::uint16_t free_port() {
  static std::atomic<std::uint32_t> next{std::random_device{}()};
  const std::uint32_t first = first_of_kernel();
  const std::uint32_t end = first >= kLowest + kEnough ? first : kHighest + 1;
  for (int i = 0; i < kTries; ++i) {
    const std::uint32_t port = kLowest + next++ % (end - kLowest);
    if (can_be_bound(port)) return static_cast<std::uint16_t>(port);
  }
  return 0;
}

}  // namespace membrain
