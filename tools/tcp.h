// Plain TCP sockets of small services: what is bound to "host:port", and what HTTP answers there.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <tl/expected.hpp>

#include "transport/descriptor.h"

namespace membrain {

/// A socket that is bound to `address` ("host:port", "[v6]:port"; port 0: any) and does not listen
/// yet; or errno, which is 0 if no host has that name.
[[nodiscard]] tl::expected<Descriptor, int> bind_tcp(const std::string& address);

/// The port that a bound socket has; 0 if it has none.
[[nodiscard]] std::uint16_t bound_port(const Descriptor& socket) noexcept;

/// The body of what `GET path` yields at `address` with status 200; nothing if it yields anything
/// else, more than 16 MiB, or is not over within `patience`. Blocks.
[[nodiscard]] std::optional<std::string> http_get(const std::string& address,
                                                  const std::string& path,
                                                  std::chrono::milliseconds patience);

}  // namespace membrain
