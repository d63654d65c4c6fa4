#include "cache/node/need_shares.h"

#include <algorithm>
#include <numeric>

namespace membrain {

namespace {

/// Coarse enough that weights of all shards, times a count, fit 64 bits.
std::uint64_t weight_of(const NeedShare& share) noexcept {
  constexpr int kCoarse = 32;
  return share.counts ? ((share.range.last - share.range.first) >> kCoarse) + 1 : 0;
}

std::vector<std::uint32_t> divide(std::uint32_t count, std::span<const std::uint64_t> weights,
                                  std::size_t turn) {
  std::vector<std::uint32_t> parts(weights.size(), 0);
  const std::uint64_t all = std::accumulate(weights.begin(), weights.end(), std::uint64_t{0});
  if (all == 0) return parts;
  std::uint32_t left = count;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    parts[i] = static_cast<std::uint32_t>(count * weights[i] / all);
    left -= parts[i];
  }
  for (std::size_t i = turn; left > 0; ++i) {
    const std::size_t at = i % parts.size();
    if (weights[at] == 0) continue;
    ++parts[at], --left;
  }
  return parts;
}

}  // namespace

std::vector<std::vector<Need>> share_needs(const std::vector<Need>& needs,
                                           std::span<const NeedShare> shares, std::size_t turn,
                                           const KeyOf& key_of) {
  std::vector<std::vector<Need>> asked(shares.size());
  std::vector<std::uint64_t> weights;
  for (const NeedShare& share : shares) weights.push_back(weight_of(share));
  for (const Need& need : needs) {
    const std::vector<std::uint32_t> counts = divide(need.count, weights, turn);
    std::vector<Need> parts(shares.size());
    for (const wire::SlotRef& at : need.candidates) {
      const std::optional<BlockKey> key = key_of(at);
      if (!key) continue;  // being filled: nobody could free it
      const auto owner = std::find_if(shares.begin(), shares.end(), [&](const NeedShare& share) {
        return share.range.has(*key);
      });
      if (owner == shares.end()) continue;
      parts[static_cast<std::size_t>(owner - shares.begin())].candidates.push_back(at);
    }
    for (std::size_t i = 0; i < shares.size(); ++i) {
      parts[i].slot_bytes = need.slot_bytes;
      parts[i].count = counts[i];
      if (counts[i] > 0 || !parts[i].candidates.empty()) asked[i].push_back(std::move(parts[i]));
    }
  }
  return asked;
}

}  // namespace membrain
