// From where and to where a block is copied. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/clock.h"
#include "protocol/messages.h"
#include "server/nodes.h"

namespace membrain {

/// What is known of a node's part in copies, beside its registration.
struct NodeCopies {
  std::uint32_t taking = 0;        ///< copies under way to it
  std::uint32_t giving = 0;        ///< and from it
  std::uint64_t coming_bytes = 0;  ///< of those to it
  TimePoint full_until{};          ///< it had no room
  TimePoint avoid_until{};         ///< its memory is in doubt
  std::uint32_t doubts = 0;        ///< that it has raised
  TimePoint registered{};
};

inline constexpr std::uint32_t kMostCopiesOfNode = 32;  ///< under way to it, and from it
inline constexpr std::uint64_t kMostComingBytes = std::uint64_t{64} << 20;

enum class Choice : std::uint8_t {
  made,
  busy,  ///< whoever could does enough already
  full,  ///< whoever could has no room, or is not trusted, now
  none,  ///< nobody could
};

struct Target {
  Choice choice = Choice::none;
  NodeIndex node = Nodes::kNoNode;
};

/// The node that takes one more replica of a block that `holders` have: never one of these; in
/// another zone if the rule says so, on another host, if there is one with room (one that is only
/// busy is waited for); among equals the one with the most room for what it moves already.
[[nodiscard]] Target choose_target(const Nodes& nodes, std::span<const NodeCopies> copies,
                                   std::span<const NodeIndex> holders, wire::ZoneRule zones,
                                   std::uint32_t length, TimePoint now);

/// Which of the holders gives it: the one that gives least. kNoNode if all are busy or away.
[[nodiscard]] NodeIndex choose_giver(const Nodes& nodes, std::span<const NodeCopies> copies,
                                     std::span<const NodeIndex> holders);

}  // namespace membrain
