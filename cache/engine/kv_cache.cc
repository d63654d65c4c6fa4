#include "membrain/kv_cache_manager.h"

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cache/engine/block_pool.h"

namespace membrain {

struct KvCacheManager::State {
  explicit State(std::uint32_t blocks) : pool(blocks) {}

  /// Blocks of the beginning of `hashes` that are in the cache.
  [[nodiscard]] std::size_t prefix(std::span<const BlockHash> hashes) const {
    const auto missing = [this](const BlockHash& name) { return !pool.find(name); };
    return static_cast<std::size_t>(std::ranges::find_if(hashes, missing) - hashes.begin());
  }

  struct Request {
    std::vector<std::uint32_t> blocks;
    std::uint64_t era = 0;
  };

  BlockPool pool;
  std::uint64_t era = 0;  ///< times that all was forgotten
  std::unordered_map<std::uint64_t, Request> requests;
};

KvCacheManager::KvCacheManager(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
KvCacheManager::KvCacheManager(KvCacheManager&&) noexcept = default;
KvCacheManager& KvCacheManager::operator=(KvCacheManager&&) noexcept = default;
KvCacheManager::~KvCacheManager() = default;

Result<KvCacheManager> KvCacheManager::create(std::uint32_t blocks) {
  if (blocks == 0 || blocks > kMaxBlocks) {
    return fail(Errc::invalid_argument, "a cache has 1 to 2^26 blocks");
  }
  return KvCacheManager(std::make_unique<State>(blocks));
}

ComputedBlocks KvCacheManager::computed_blocks(std::span<const BlockHash> hashes,
                                               std::size_t remote_blocks) const {
  const std::size_t local = state_->prefix(hashes);
  const std::size_t remote = std::min(remote_blocks, hashes.size());
  return {local, remote > local ? remote - local : 0};
}

Result<std::size_t> KvCacheManager::allocate(RequestId request, std::span<const BlockHash> hashes,
                                             std::size_t count) {
  if (request.value == 0) return fail(Errc::invalid_argument, "a request's id is not 0");
  BlockPool& pool = state_->pool;
  const auto known = state_->requests.find(request.value);
  const bool first = known == state_->requests.end();
  const std::size_t shared = first ? state_->prefix(hashes) : 0;
  const std::size_t have = first ? shared : known->second.blocks.size();
  if (count < have || count == 0) {
    return fail(Errc::invalid_argument, "fewer blocks than the request has");
  }
  const auto idle = std::ranges::count_if(hashes.first(shared), [&pool](const BlockHash& name) {
    return pool.is_free(*pool.find(name));
  });
  if (count - have + static_cast<std::size_t>(idle) > pool.free_count()) {
    return fail(Errc::out_of_capacity, "too few blocks are free");
  }
  State::Request& place = state_->requests[request.value];
  if (first) place.era = state_->era;
  std::vector<std::uint32_t>& blocks = place.blocks;
  blocks.reserve(count);
  for (const BlockHash& name : hashes.first(shared)) {
    blocks.push_back(*pool.find(name));
    pool.share(blocks.back());
  }
  while (blocks.size() < count) blocks.push_back(pool.take());
  return shared;
}

Result<> KvCacheManager::publish(RequestId request, std::span<const BlockHash> hashes) {
  const std::span<const std::uint32_t> blocks = blocks_of(request);
  if (hashes.size() > blocks.size()) {
    return fail(Errc::invalid_argument, "more hashes than the request has blocks");
  }
  if (hashes.empty() || state_->requests[request.value].era != state_->era) return {};
  BlockPool& pool = state_->pool;
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    const BlockHash& name = pool.name(blocks[i]);
    if (hashes[i].empty() || (!name.empty() && name != hashes[i])) {
      return fail(Errc::invalid_argument, "a block has another hash");
    }
  }
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    if (pool.name(blocks[i]).empty()) pool.set_name(blocks[i], hashes[i]);
  }
  return {};
}

Result<> KvCacheManager::free(RequestId request) {
  const auto known = state_->requests.find(request.value);
  if (known == state_->requests.end()) return fail(Errc::not_found, "no such request");
  const std::vector<std::uint32_t>& blocks = known->second.blocks;
  for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) {
    state_->pool.give_back(*block);
  }
  state_->requests.erase(known);
  return {};
}

void KvCacheManager::forget() {
  state_->pool.forget_names();
  ++state_->era;
}

std::span<const std::uint32_t> KvCacheManager::blocks_of(RequestId request) const {
  const auto known = state_->requests.find(request.value);
  if (known == state_->requests.end()) return {};
  return known->second.blocks;
}

std::uint32_t KvCacheManager::refcount(std::uint32_t block) const {
  return block < state_->pool.count() ? state_->pool.refs(block) : 0;
}

KvCacheUse KvCacheManager::use() const {
  const BlockPool& pool = state_->pool;
  KvCacheUse use;
  use.blocks = pool.count();
  use.used_blocks = pool.count() - pool.free_count();
  use.named_blocks = static_cast<std::uint32_t>(pool.named_count());
  use.requests = static_cast<std::uint32_t>(state_->requests.size());
  use.reused = pool.reused();
  return use;
}

}  // namespace membrain
