#include "cache/node/link_config.h"

#include <algorithm>

namespace membrain {

namespace {
constexpr std::uint32_t kMostDoublings = 16;
}  // namespace

Duration LinkConfig::backoff(std::uint32_t failures, Duration longest) const noexcept {
  Duration wait = first_backoff;
  for (std::uint32_t i = 1; i < std::min(failures, kMostDoublings); ++i) {
    wait = std::min(wait * 2, longest);
  }
  const std::uint64_t mixed =
      (node.value * 0x9e3779b97f4a7c15ull + failures * 0xbf58476d1ce4e5b9ull) >> 56;
  return wait * 3 / 4 + wait * static_cast<std::int64_t>(mixed) / 512;
}

}  // namespace membrain
