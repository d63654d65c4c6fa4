// A port for a server that a benchmark or a test starts.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>

#include "transport/descriptor.h"

namespace membrain {

/// On loopback, one that nobody had a moment ago; 0 if there is none.
inline std::uint16_t free_port() {
  const Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  const bool bound =
      ::bind(socket.fd(), any, size) == 0 && ::getsockname(socket.fd(), any, &size) == 0;
  return bound ? ntohs(address.sin_port) : std::uint16_t{0};
}

}  // namespace membrain
