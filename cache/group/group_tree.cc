#include "cache/group/group_tree.h"

#include <bit>

namespace membrain {

std::vector<std::uint32_t> children_of(std::uint32_t rank, std::uint32_t root, std::uint32_t size,
                                       wire::TreeShape shape) {
  const std::uint32_t from_root = (rank + size - root) % size;
  const auto member = [&](std::uint32_t distance) { return (root + distance) % size; };
  std::vector<std::uint32_t> children;
  if (shape == wire::TreeShape::chain) {
    if (from_root + 1 < size) children.push_back(member(from_root + 1));
    return children;
  }
  // A member has those whose distance is its own and one more bit, below its lowest one.
  const std::uint32_t end = from_root == 0 ? std::bit_ceil(size) : from_root & (~from_root + 1);
  for (std::uint32_t bit = end >> 1; bit != 0; bit >>= 1) {
    if (from_root + bit < size) children.push_back(member(from_root + bit));
  }
  return children;
}

wire::TreeShape shape_for(std::uint32_t size, std::size_t chunks) noexcept {
  return chunks >= size ? wire::TreeShape::chain : wire::TreeShape::binomial;
}

}  // namespace membrain
