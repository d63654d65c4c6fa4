// A port for a server that a command, a benchmark or a test starts.
#pragma once

#include <cstdint>

namespace membrain {

/// On loopback, one that nobody has; 0 if there is none. Below the range from which the kernel
/// takes ports for outgoing connections (/proc/sys/net/ipv4/ip_local_port_range), where that leaves
/// room: others on the machine do not come by it before the server has begun to listen.
/// Each call of a process gives another one.
std::uint16_t free_port();

}  // namespace membrain
