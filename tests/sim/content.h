// What the bytes of a simulated block are: a function of its number alone, so that any wrong byte
// shows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace membrain::sim {

/// splitmix64 (Steele, Lea, Flood 2014): every output bit depends on every input bit.
[[nodiscard]] inline std::uint64_t mix(std::uint64_t x) noexcept {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// Of the words of two blocks, or of two places in a block, none are equal by more than chance. The
/// compiler makes vectors of it: a schedule writes and compares megabytes.
[[nodiscard]] inline std::uint64_t word_of(std::uint64_t block, std::size_t index) noexcept {
  return mix(block) + index * 0x9e3779b97f4a7c15;
}

[[nodiscard]] inline std::vector<std::byte> content_of(std::uint64_t block, std::size_t size) {
  std::vector<std::byte> bytes(size);
  const std::size_t whole = size / 8;
  for (std::size_t i = 0; i < whole; ++i) {
    const std::uint64_t word = word_of(block, i);
    std::memcpy(bytes.data() + 8 * i, &word, 8);
  }
  const std::uint64_t last = word_of(block, whole);
  std::memcpy(bytes.data() + 8 * whole, &last, size % 8);
  return bytes;
}

/// True if `bytes` are what block `block` holds from its beginning on.
[[nodiscard]] inline bool is_content_of(std::uint64_t block, std::span<const std::byte> bytes) {
  const std::size_t whole = bytes.size() / 8;
  std::uint64_t differing = 0;
  for (std::size_t i = 0; i < whole; ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + 8 * i, 8);
    differing |= word ^ word_of(block, i);
  }
  const std::uint64_t last = word_of(block, whole);
  return differing == 0 && std::memcmp(bytes.data() + 8 * whole, &last, bytes.size() % 8) == 0;
}

}  // namespace membrain::sim
