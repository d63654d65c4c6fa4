// Sockets that never block, for first contact.
#pragma once

#include <sys/socket.h>

#include <optional>
#include <string>

#include "membrain/result.h"
#include "transport/descriptor.h"
#include "transport/fabric.h"

namespace membrain {

/// "host:port" for the kernel.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;

  [[nodiscard]] const sockaddr* get() const noexcept {
    return reinterpret_cast<const sockaddr*>(&storage);
  }
  [[nodiscard]] bool loopback() const noexcept;
  /// All addresses of the host: one can listen there, and nobody else finds it by that.
  [[nodiscard]] bool everywhere() const noexcept;
};

/// As `resolve`, of what needs no lookup: numbers and "localhost". Nothing for a name.
Result<std::optional<SocketAddress>> resolve_number(const Address& address);

/// Understands "127.0.0.1:9201", "[::1]:9201", "localhost:9201" (127.0.0.1) and names. Numbers and
/// "localhost" are never looked up; any other name is, by the system's resolver, which may block
/// the calling thread for as long as the system is set up to wait: see `look_up`.
/// `invalid_argument` if it is no address, `unavailable` if the name is unknown.
Result<SocketAddress> resolve(const Address& address);

/// "0.0.0.0:9201", "[::]:9201". False for names.
[[nodiscard]] bool is_everywhere(const Address& address);

/// A listening socket. `unavailable`, with errno, if the port is in use or not ours to take.
Result<Descriptor> open_listener(const SocketAddress& address);
/// The port that a listening socket got.
[[nodiscard]] std::uint16_t port_of(const Descriptor& socket) noexcept;
/// `host` of "host:port" with another port.
[[nodiscard]] Address with_port(const Address& address, std::uint16_t port);

/// A socket on its way to `address`: writable when it is there, or has failed (`take_error`).
Result<Descriptor> start_connect(const SocketAddress& address);
/// What became of `start_connect`: an errno, or 0.
[[nodiscard]] int take_error(const Descriptor& socket) noexcept;
/// Lets the kernel ask whether the other end's host is still there: a socket that carries nothing
/// else fails three seconds after its last sign of life.
void watch_for_dead_peer(const Descriptor& socket) noexcept;

}  // namespace membrain
