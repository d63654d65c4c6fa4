// Checks put right: what a stranger would do with bytes of his own, and a fuzzer cannot guess.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "base/checksum.h"
#include "base/codec.h"
#include "protocol/seal.h"

namespace membrain::fuzz {

/// The last 16 bytes become the checksum of those before.
inline std::vector<std::byte> with_checksum(std::span<const std::byte> bytes) {
  std::vector<std::byte> mended(bytes.begin(), bytes.end());
  if (mended.size() < sizeof(Checksum)) return mended;
  mended.resize(mended.size() - sizeof(Checksum));
  const Checksum sum = checksum(mended);
  Writer(mended).put(sum);
  return mended;
}

/// A seal's own check, as docs/arena.md has it.
inline void mend(Seal& seal, SlotId slot) noexcept {
  constexpr std::size_t kFrom = offsetof(Seal, length);
  constexpr std::size_t kTo = offsetof(Seal, self_check);
  std::array<std::byte, kTo - kFrom + sizeof slot.value> covered;
  std::memcpy(covered.data(), reinterpret_cast<const std::byte*>(&seal) + kFrom, kTo - kFrom);
  std::memcpy(covered.data() + (kTo - kFrom), &slot.value, sizeof slot.value);
  seal.self_check = checksum(covered).low ^ seal.writer;
}

}  // namespace membrain::fuzz
