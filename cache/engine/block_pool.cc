#include "cache/engine/block_pool.h"

#include "base/check.h"

namespace membrain {

BlockPool::BlockPool(std::uint32_t blocks) : last_(blocks), blocks_(std::size_t{blocks} + 1) {
  index_.reserve(blocks);
  blocks_[last_].before = blocks_[last_].after = last_;
  for (std::uint32_t block = 0; block < blocks; ++block) link_last(block);
}

std::optional<std::uint32_t> BlockPool::find(const BlockHash& name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) return std::nullopt;
  return found->second;
}

void BlockPool::share(std::uint32_t block) {
  if (blocks_[block].refs++ == 0) unlink(block);
}

std::uint32_t BlockPool::take() {
  const std::uint32_t block = blocks_[last_].after;
  check(block != last_, "a block is taken when none is free");
  Block& taken = blocks_[block];
  if (!taken.name.empty()) {
    index_.erase(taken.name);
    taken.name = {};
    ++reused_;
  }
  share(block);
  return block;
}

void BlockPool::give_back(std::uint32_t block) {
  check(blocks_[block].refs > 0, "a block is given back that nobody uses");
  if (--blocks_[block].refs == 0) link_last(block);
}

bool BlockPool::set_name(std::uint32_t block, const BlockHash& name) {
  if (!index_.try_emplace(name, block).second) return false;
  blocks_[block].name = name;
  return true;
}

void BlockPool::forget_names() {
  for (Block& block : blocks_) block.name = {};
  index_.clear();
}

void BlockPool::link_last(std::uint32_t block) {
  const std::uint32_t before = blocks_[last_].before;
  blocks_[block].before = before;
  blocks_[block].after = last_;
  blocks_[before].after = block;
  blocks_[last_].before = block;
  ++free_;
}

void BlockPool::unlink(std::uint32_t block) {
  const Block& gone = blocks_[block];
  blocks_[gone.before].after = gone.after;
  blocks_[gone.after].before = gone.before;
  --free_;
}

}  // namespace membrain
