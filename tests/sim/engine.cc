#include "tests/sim/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace membrain::sim {

namespace {
constexpr std::chrono::milliseconds kOperation{400};
}

Namespace shared_namespace() {
  Namespace space;
  space.model = "simulated";
  space.kv_dtype = "bytes";
  space.hash_algorithm = "number";
  return space;
}

Engine::Engine(Cluster& cluster, std::shared_ptr<ClientLife> life, Ledger& ledger,
               double clear) noexcept
    : cluster_(cluster), life_(std::move(life)), ledger_(ledger), clear_(clear) {}

std::uint64_t Engine::block_id(std::uint64_t conversation, std::uint32_t depth) {
  return conversation * 100 + depth + 1;
}

BlockHash Engine::hash_of(std::uint64_t block) {
  return BlockHash::from(std::as_bytes(std::span(&block, 1))).value();
}

std::size_t Engine::size_of(std::uint64_t block) {
  constexpr std::size_t kSizes[] = {4096, 4096, 6000, 8192, 12345};
  return kSizes[block % std::size(kSizes)];
}

std::uint64_t Engine::held_blocks() const {
  std::uint64_t blocks = 0;
  for (const Match& match : held_) blocks += match.prefix_blocks();
  return blocks;
}

std::vector<LookupId> Engine::held_lookups() const {
  std::vector<LookupId> lookups;
  for (const Match& match : held_) lookups.push_back(match.state()->claims.front().lookup);
  return lookups;
}

std::string Engine::held() const {
  std::string text;
  for (const Match& match : held_) {
    text += fmt::format(" lookup {}: {} blocks,", match.state()->claims.front().lookup.value,
                        match.prefix_blocks());
  }
  return text;
}

Task<Result<>> Engine::open() {
  Task<Result<>> starting = life_->core.start();
  const Result<> started = co_await starting;
  if (!started) co_return started;
  life_->started = true;
  const Namespace space = shared_namespace();
  Task<Result<OpenedNamespace>> opening = life_->core.open_namespace(space);
  const Result<OpenedNamespace> opened = co_await opening;
  if (!opened) co_return fail(opened.error());
  space_ = *opened;
  co_return Result<>{};
}

Task<> Engine::live() {
  life_->busy = true;
  Task<Result<>> opening = open();
  const Result<> opened = co_await opening;
  failed_ = !opened;
  while (opened && !resting_) {
    if (clear_ > 0 && cluster_.random().chance(clear_)) {
      Task<> clearing = clear_all();
      co_await clearing;
    }
    Task<> working = prompt();
    co_await working;
    const TimePoint next = life_->loop.now() + std::chrono::milliseconds(draw(40));
    co_await life_->loop.sleep_until(next);
  }
  ended_ = true;
  life_->busy = false;
}

Task<> Engine::prompt() {
  const std::uint64_t conversation = draw(kConversations);
  const auto length = static_cast<std::uint32_t>(1 + draw(kLongest));
  std::vector<BlockHash> hashes;
  for (std::uint32_t depth = 0; depth < length; ++depth) {
    hashes.push_back(hash_of(block_id(conversation, depth)));
  }
  LookupOptions options;
  options.timeout = kOperation;
  Task<Result<Match>> looking = life_->core.lookup(space_, std::move(hashes), options);
  Result<Match> match = co_await looking;
  if (!match) {
    ++ledger_.counts.missed;
    co_return;
  }
  ++ledger_.counts.lookups;
  ledger_.counts.blocks_hit += match->prefix_blocks();
  const auto prefix = static_cast<std::uint32_t>(match->prefix_blocks());
  if (prefix > 0) {
    Task<> fetching = fetch_prefix(*match, conversation);
    co_await fetching;
  }
  if (prefix < length) {
    Task<> storing = store_rest(conversation, prefix, length);
    co_await storing;
  }
  if (prefix > 0 && draw(2) == 0) held_.push_back(std::move(*match));
  if (held_.size() > draw(4)) held_.pop_front();
}

Task<> Engine::fetch_prefix(const Match& match, std::uint64_t conversation) {
  const std::size_t count = match.prefix_blocks();
  std::vector<std::vector<std::byte>> buffers(count);
  std::vector<FetchItem> items(count);
  for (std::size_t i = 0; i < count; ++i) {
    buffers[i].resize(match.part_bytes(i));
    items[i].block = static_cast<std::uint32_t>(i);
    // Two pieces, as in a paged layout.
    const std::size_t half = buffers[i].size() / 2;
    items[i].into = {{buffers[i].data(), half},
                     {buffers[i].data() + half, buffers[i].size() - half}};
  }
  TransferOptions options;
  options.timeout = kOperation;
  std::shared_ptr<CancelToken> cancel = std::make_shared<CancelToken>();
  Task<Result<TransferReport>> fetching =
      life_->core.fetch(match.state(), std::move(items), std::move(options), cancel);
  Result<TransferReport> report = co_await fetching;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t block = block_id(conversation, static_cast<std::uint32_t>(i));
    const bool fetched = report && report->items[i].ok;
    if (fetched && (buffers[i].size() != size_of(block) || !is_content_of(block, buffers[i]))) {
      ledger_.violation("S1: a fetch said ok and delivered other bytes");
    }
    ++(fetched ? ledger_.counts.fetched : ledger_.counts.missed);
    ledger_.watch(std::move(buffers[i]));
  }
}

Task<> Engine::store_rest(std::uint64_t conversation, std::uint32_t from, std::uint32_t to) {
  std::vector<std::vector<std::byte>> sources;
  std::vector<StoreItem> items;
  for (std::uint32_t depth = from; depth < to; ++depth) {
    const std::uint64_t block = block_id(conversation, depth);
    sources.push_back(content_of(block, size_of(block)));
    StoreItem item;
    item.hash = hash_of(block);
    if (depth > 0) item.parent = hash_of(block_id(conversation, depth - 1));
    item.depth = depth;
    item.from = {{sources.back().data(), sources.back().size()}};
    items.push_back(std::move(item));
  }
  TransferOptions options;
  options.timeout = kOperation;
  std::shared_ptr<CancelToken> cancel = std::make_shared<CancelToken>();
  Task<Result<TransferReport>> storing =
      life_->core.store(space_, std::move(items), std::move(options), cancel);
  const Result<TransferReport> report = co_await storing;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const bool stored = report && report->items[i].ok;
    ++(stored ? ledger_.counts.stored : ledger_.counts.not_stored);
    // The memory is ours again: what is still being sent from it would now carry other bytes.
    std::fill(sources[i].begin(), sources[i].end(), std::byte{0xdd});
  }
}

Task<> Engine::clear_all() {
  Task<Result<OpenedNamespace>> clearing = life_->core.clear(space_);
  const Result<OpenedNamespace> cleared = co_await clearing;
  if (!cleared) co_return;
  space_ = *cleared;
  ++ledger_.counts.clears;
}

}  // namespace membrain::sim
