#include "protocol/arena_header.h"

#include <span>

#include "base/checksum.h"

namespace membrain {

std::uint64_t ArenaHeader::check_of() const noexcept {
  const std::uint64_t fields[] = {version, node, capacity_bytes, seals_offset, slots_offset};
  return checksum(std::as_bytes(std::span(fields))).low;
}

bool ArenaHeader::sound() const noexcept {
  return magic.load() == kMagic && version == kVersion && node != 0 && layout_check == check_of();
}

}  // namespace membrain
