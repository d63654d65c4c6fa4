#include "cache/client/spread.h"

#include <cmath>

namespace membrain {

double spread_score(const BlockKey& key, NodeId node, double weight, std::uint64_t salt) noexcept {
  std::uint64_t z = key.low ^ ((node.value + (salt << 32U)) * 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  z ^= z >> 31;
  const double drawn = (static_cast<double>(z >> 11) + 0.5) * 0x1.0p-53;  // between 0 and 1
  return -weight / std::log(drawn);
}

}  // namespace membrain
