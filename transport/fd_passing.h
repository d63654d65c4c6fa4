// Sockets between processes of one host that hand open files over.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "membrain/result.h"
#include "transport/descriptor.h"

namespace membrain {

/// Unix sockets (SEQPACKET: one send is one packet) under abstract names, which vanish with whoever
/// listens. Such names belong to a network namespace and to no user: whoever connects or answers is
/// believed only after `of_this_user`. None of these calls blocks.
namespace local {

inline constexpr std::size_t kMaxNameBytes = 100;

/// `unavailable`, with errno, if the name is in use; `invalid_argument` if it is empty or too long.
Result<Descriptor> listen(std::string_view name);
/// Connected, or not: `unavailable` if nobody listens, `out_of_capacity` if its queue is full.
Result<Descriptor> connect(std::string_view name);
/// The next caller; nothing (an empty Descriptor) if there is none.
[[nodiscard]] Descriptor accept(const Descriptor& listener) noexcept;
/// The process at the other end runs under our effective user id. False for the id that stands for
/// users of elsewhere.
[[nodiscard]] bool of_this_user(const Descriptor& socket) noexcept;

/// Sends one packet, with an open file if `file` holds one. False if it did not go.
[[nodiscard]] bool send(const Descriptor& socket, std::span<const std::byte> packet,
                        const Descriptor& file) noexcept;

/// What one `receive` brought.
struct Received {
  enum class State : unsigned char { nothing, packet, ended };
  State state = State::ended;
  std::size_t size = 0;  ///< of the packet
  Descriptor file;       ///< if one came with it
};
/// Takes one packet into `into`; a longer one, an empty one, or one with more than one file, counts
/// as `ended`: what came with it is closed.
[[nodiscard]] Received receive(const Descriptor& socket, std::span<std::byte> into) noexcept;

}  // namespace local

}  // namespace membrain
