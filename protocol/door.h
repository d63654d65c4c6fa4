// What is said at a node's door: who wants to map its arena, and here it is.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/ids.h"

namespace membrain::wire {

/// One packet of 24 bytes either way: {u32 magic, u16 kind, u16 zero, u32 node, u32 incarnation,
/// u64 writer}. An answer `here` brings the arena's open file.
struct DoorFrame {
  static constexpr std::uint32_t kMagic = 0x3144424d;  ///< "MBD1" in memory order
  static constexpr std::size_t kBytes = 24;
  enum class Kind : std::uint16_t { read = 1, write, here, refused };

  Kind kind = Kind::read;
  NodeId node;  ///< as the caller knows it: another one is not meant
  Incarnation incarnation;
  WriterId writer = {};  ///< in the answer to `write`: who the caller is from now on; else 0

  [[nodiscard]] std::array<std::byte, kBytes> encode() const noexcept;
  /// Nothing if these bytes are no such packet.
  [[nodiscard]] static std::optional<DoorFrame> decode(std::span<const std::byte> bytes) noexcept;
  bool operator==(const DoorFrame&) const = default;
};

}  // namespace membrain::wire
