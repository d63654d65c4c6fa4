// The blocks of a torture run: few at a time, so that engines meet on them, and new ones from time
// to time, so that there is always something to store.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/clock.h"
#include "membrain/block.h"

namespace membrain {

/// Prompts are prefixes of conversations; each round has its own conversations.
struct TortureBlocks {
  static constexpr std::uint32_t kSpaces = 2;  ///< namespaces; the second one is cleared
  static constexpr std::uint64_t kConversations = 6;
  static constexpr std::uint64_t kDepth = 8;  ///< blocks of the longest prompt
  static constexpr std::chrono::seconds kRound{20};

  TimePoint began;
  std::uint64_t block_bytes = 65536;  ///< of the largest

  [[nodiscard]] std::uint64_t round_at(TimePoint now) const {
    return now < began ? 0 : static_cast<std::uint64_t>((now - began) / kRound);
  }
  /// Never 0.
  [[nodiscard]] static std::uint64_t id(std::uint64_t round, std::uint64_t conversation,
                                        std::uint64_t depth) {
    return 1 + (round * kConversations + conversation) * kDepth + depth;
  }
  /// The same in every namespace.
  [[nodiscard]] static BlockHash hash_of(std::uint64_t id);
  /// What the bytes follow from: other bytes in every namespace.
  [[nodiscard]] static std::uint64_t content_of(std::uint32_t space, std::uint64_t id) {
    return id * kSpaces + space;
  }
  /// Whole pages and odd sizes, 1 byte at least.
  [[nodiscard]] std::uint64_t size_of(std::uint64_t id) const;
  [[nodiscard]] Namespace space_of(std::uint32_t space) const;
};

}  // namespace membrain
