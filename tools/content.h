// What a block of the replay holds: bytes that follow from the block and the offset alone, so that
// every engine can make them and check them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace membrain {

/// Writes the block's bytes. About as fast as memory.
void fill_content(std::uint64_t hash_id, std::span<std::byte> block) noexcept;

/// How many bytes are not the block's. A block in another's place, or shifted, is wrong nearly
/// everywhere.
[[nodiscard]] std::uint64_t count_wrong_bytes(std::uint64_t hash_id,
                                              std::span<const std::byte> block) noexcept;

}  // namespace membrain
