// Blocks in a table of their own, by number.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

#include "base/checksum.h"
#include "cache/node/block_table.h"

namespace membrain {

inline constexpr std::uint64_t kMiB = 1 << 20;

inline wire::BlockMeta meta_of(std::uint64_t key) {
  wire::BlockMeta meta;
  meta.space = NamespaceId{7};
  meta.era = Era{1};
  meta.key = {key, ~key};
  meta.depth = 3;
  meta.priority = 2;
  return meta;
}

inline wire::SlotRef put(BlockTable& table, std::uint64_t key, std::uint32_t length) {
  const Result<SlotClaim> claim = table.claim(length);
  EXPECT_TRUE(claim);
  for (std::size_t i = 0; i < length; ++i) {
    claim->memory[i] = static_cast<std::byte>(i * 7 + key);
  }
  return table.seal(*claim, meta_of(key), checksum(claim->memory)).at;
}

}  // namespace membrain
