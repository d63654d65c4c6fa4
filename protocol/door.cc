#include "protocol/door.h"

#include <cstring>

namespace membrain::wire {

namespace {

/// As it lies in the packet: the wire is little-endian and so are we.
struct Packed {
  std::uint32_t magic;
  std::uint16_t kind;
  std::uint16_t zero;
  std::uint32_t node;
  std::uint32_t incarnation;
  std::uint64_t writer;
};
static_assert(sizeof(Packed) == DoorFrame::kBytes);

}  // namespace

std::array<std::byte, DoorFrame::kBytes> DoorFrame::encode() const noexcept {
  const Packed packed{
      kMagic, static_cast<std::uint16_t>(kind), 0, node.value, incarnation.value, writer.value};
  std::array<std::byte, kBytes> bytes;
  std::memcpy(bytes.data(), &packed, kBytes);
  return bytes;
}

std::optional<DoorFrame> DoorFrame::decode(std::span<const std::byte> bytes) noexcept {
  if (bytes.size() != kBytes) return std::nullopt;
  Packed packed;
  std::memcpy(&packed, bytes.data(), kBytes);
  const bool known = packed.kind >= static_cast<std::uint16_t>(Kind::read) &&
                     packed.kind <= static_cast<std::uint16_t>(Kind::refused);
  if (packed.magic != kMagic || packed.zero != 0 || !known) return std::nullopt;
  return DoorFrame{static_cast<Kind>(packed.kind), NodeId{packed.node},
                   Incarnation{packed.incarnation}, WriterId{packed.writer}};
}

}  // namespace membrain::wire
