// The checksum of a block that lies in pieces.
#pragma once

#include <cstddef>
#include <span>

#include "base/checksum.h"

namespace membrain {

/// XXH3-128 of the concatenation of `pieces` (a sized range of Piece or ConstPiece).
template <class Pieces>
[[nodiscard]] Checksum checksum_of(const Pieces& pieces) noexcept {
  ChecksumStream stream;
  for (const auto& piece : pieces) {
    const std::span bytes(static_cast<const std::byte*>(piece.data), piece.size);
    if (pieces.size() == 1) return checksum(bytes);
    stream.add(bytes);
  }
  return stream.finish();
}

}  // namespace membrain
