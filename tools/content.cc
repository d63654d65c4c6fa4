#include "tools/content.h"

#include <bit>
#include <cstring>

namespace membrain {
namespace {

/// Scatters ids over all 64 bits (the finaliser of SplitMix64).
std::uint64_t seed_of(std::uint64_t hash_id) noexcept {
  std::uint64_t mixed = hash_id + 0x9e3779b97f4a7c15U;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9U;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebU;
  return mixed ^ (mixed >> 31);
}

/// The eight bytes at word `index`: distinct for every index of a block.
std::uint64_t word_at(std::uint64_t seed, std::size_t index) noexcept {
  const std::uint64_t word = seed + index * 0xd1342543de82ef95U;
  return word ^ (word >> 32);
}

/// How many of the eight bytes differ.
std::uint64_t differing_bytes(std::uint64_t a, std::uint64_t b) noexcept {
  std::uint64_t bits = a ^ b;
  bits |= bits >> 4;
  bits |= bits >> 2;
  bits |= bits >> 1;
  return static_cast<std::uint64_t>(std::popcount(bits & 0x0101010101010101U));
}

}  // namespace

void fill_content(std::uint64_t hash_id, std::span<std::byte> block) noexcept {
  const std::uint64_t seed = seed_of(hash_id);
  const std::size_t words = block.size() / 8;
  for (std::size_t index = 0; index < words; ++index) {
    const std::uint64_t word = word_at(seed, index);
    std::memcpy(block.data() + index * 8, &word, 8);
  }
  const std::uint64_t last = word_at(seed, words);
  // A block may be empty, with no memory at all.
  if (block.size() % 8 != 0) std::memcpy(block.data() + words * 8, &last, block.size() % 8);
}

std::uint64_t count_wrong_bytes(std::uint64_t hash_id, std::span<const std::byte> block) noexcept {
  const std::uint64_t seed = seed_of(hash_id);
  const std::size_t words = block.size() / 8;
  std::uint64_t wrong = 0;
  for (std::size_t index = 0; index < words; ++index) {
    std::uint64_t word = 0;
    std::memcpy(&word, block.data() + index * 8, 8);
    if (const std::uint64_t right = word_at(seed, index); word != right) [[unlikely]] {
      wrong += differing_bytes(word, right);
    }
  }
  const std::uint64_t right = word_at(seed, words);
  std::uint64_t last = right;
  if (block.size() % 8 != 0) std::memcpy(&last, block.data() + words * 8, block.size() % 8);
  return wrong + differing_bytes(last, right);
}

}  // namespace membrain
