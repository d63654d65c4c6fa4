#include "tools/torture_blocks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace membrain {

BlockHash TortureBlocks::hash_of(std::uint64_t id) {
  BlockHash hash;
  std::memcpy(hash.bytes.data(), &id, sizeof id);
  hash.size = sizeof id;
  return hash;
}

std::uint64_t TortureBlocks::size_of(std::uint64_t id) const {
  const std::uint64_t sizes[] = {block_bytes, block_bytes / 2, block_bytes * 3 / 4,
                                 block_bytes / 16, block_bytes - 1};
  return std::max<std::uint64_t>(1, sizes[id % std::size(sizes)]);
}

Namespace TortureBlocks::space_of(std::uint32_t space) const {
  Namespace made;
  made.model = fmt::format("torture {}", space);
  made.kv_dtype = "bytes";
  made.layout = fmt::format("{} bytes", block_bytes);
  made.hash_algorithm = "number";
  return made;
}

}  // namespace membrain
