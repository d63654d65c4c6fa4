// How far generations count.
#pragma once

#include <cstdint>

namespace membrain {

/// No life gets this far: a file that says so is damaged, and counting on from it would end at
/// generation 0, which only a free slot has.
inline constexpr std::uint64_t kMaxGeneration = std::uint64_t{1} << 62;

}  // namespace membrain
