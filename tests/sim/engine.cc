#include "tests/sim/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cache/client/mapped_view.h"
#include "cache/client/window_read.h"

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
  for (const HeldMatch& held : held_) blocks += held.match.prefix_blocks();
  return blocks;
}

std::vector<LookupId> Engine::held_lookups() const {
  std::vector<LookupId> lookups;
  for (const HeldMatch& held : held_) {
    lookups.push_back(held.match.state()->claims.front().lookup);
  }
  return lookups;
}

std::string Engine::held() const {
  std::string text;
  for (const HeldMatch& held : held_) {
    text += fmt::format(" lookup {}: {} blocks,", held.match.state()->claims.front().lookup.value,
                        held.match.prefix_blocks());
  }
  return text;
}

Task<Result<>> Engine::open() {
  Task<Result<>> starting = life_->core.start();
  const Result<> started = co_await starting;
  if (!started) co_return started;
  life_->started = true;
  Task<Result<>> entering = enter();
  co_return co_await entering;
}

Task<Result<>> Engine::enter() {
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
  const std::uint64_t conversation = topic_ + draw(kConversations);
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
    if (match.error().code != Errc::stale) co_return;
    Task<Result<>> entering = enter();  // somebody has cleared it
    static_cast<void>(co_await entering);
    co_return;
  }
  ++ledger_.counts.lookups;
  ledger_.counts.blocks_hit += match->prefix_blocks();
  const auto prefix = static_cast<std::uint32_t>(match->prefix_blocks());
  check_answer(*match);
  if (prefix > 0) {
    note_shared_prefix(conversation);
    reading_ = true;
    Task<> fetching =
        draw(4) == 0 ? view_prefix(*match, conversation) : fetch_prefix(*match, conversation);
    co_await fetching;
    reading_ = false;
  }
  if (prefix < length) {
    Task<> storing = store_rest(conversation, prefix, length);
    co_await storing;
  }
  if (prefix > 0 && draw(2) == 0) {
    held_.push_back({std::move(*match), conversation, std::vector<Promise>(prefix)});
  }
  if (held_.size() > draw(4)) held_.pop_front();
}

void Engine::note_shared_prefix(std::uint64_t conversation) {
  const bool shared = std::ranges::any_of(
      held_, [&](const HeldMatch& held) { return held.conversation == conversation; });
  if (shared) ledger_.counts.meet("two prompts that share a prefix pinned");
}

void Engine::check_answer(const Match& match) {
  const Match::State& state = *match.state();
  for (std::size_t i = 0; i < match.prefix_blocks(); ++i) {
    for (const FoundReplica& replica : state.replicas_of(i, 0)) {
      const std::shared_ptr<Arena> arena =
          cluster_.arena_of(replica.at.node, replica.at.incarnation);
      if (!arena) continue;
      const Seal& seal = arena->seal(replica.at.slot);
      if (seal.state.load() != Seal::sealed) continue;
      if (seal.generation.load() != replica.at.generation.value) continue;
      if (seal.space == space_.id && seal.key == state.keys[i]) continue;
      ledger_.violation("S5: an answer named a slot of another namespace or key");
    }
  }
}

void Engine::check_bytes(std::uint64_t block, std::span<const std::byte> bytes, const char* what) {
  if (bytes.size() == size_of(block) && is_content_of(content_id(block, life_->tenant), bytes)) {
    return;
  }
  for (std::size_t tenant = 0; tenant < cluster_.plan().tenants; ++tenant) {
    if (tenant == life_->tenant || !is_content_of(content_id(block, tenant), bytes)) continue;
    return ledger_.violation(fmt::format("S5: {} another tenant's bytes", what));
  }
  ledger_.violation(fmt::format("S1: {} other bytes", what));
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
  std::vector<std::vector<std::byte>> at_deadline;
  Timer deadline(life_->loop, [&buffers, &at_deadline] { at_deadline = buffers; });
  deadline.arm(life_->loop.now() + kOperation);
  Task<Result<TransferReport>> fetching = fetch(match, std::move(items));
  Result<TransferReport> report = co_await fetching;
  deadline.cancel();
  if (!at_deadline.empty() && at_deadline != buffers) {
    ledger_.counts.meet("bytes that landed after a time-out");
  }
  if (report && report->lane_bytes.contains(kMappedLane)) ++ledger_.counts.mapped;
  if (report && report->lane_bytes.contains(kWindowLane)) ++ledger_.counts.read_from_afar;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t block = block_id(conversation, static_cast<std::uint32_t>(i));
    const bool fetched = report && report->items[i].ok;
    if (fetched) check_bytes(block, buffers[i], "a fetch said ok and delivered");
    ++(fetched ? ledger_.counts.fetched : ledger_.counts.missed);
    ledger_.watch(std::move(buffers[i]));
  }
}

Task<Result<TransferReport>> Engine::fetch(const Match& match, std::vector<FetchItem> items) {
  FetchList list(items);
  if (draw(2) == 0) {
    std::optional<MappedPlan> plan = plan_mapped(*match.state(), list, life_->core.arenas());
    if (plan) {
      Task<Result<TransferReport>> mixed = fetch_mixed(match, std::move(list), std::move(*plan));
      co_return co_await mixed;
    }
  }
  TransferOptions options;
  options.timeout = kOperation;
  std::shared_ptr<CancelToken> cancel = std::make_shared<CancelToken>();
  Task<Result<TransferReport>> checked =
      life_->core.fetch(match.state(), std::move(list), std::move(options), cancel);
  co_return co_await checked;
}

/// As `Client::fetch_async` does it, with a copy thread that may be late.
Task<Result<TransferReport>> Engine::fetch_mixed(const Match& match, FetchList items,
                                                 MappedPlan plan) {
  Result<TransferReport> outcome;
  Completion ended(life_->loop.ready());
  MixedFetch::Job job;
  job.match = match.state();
  job.items = std::move(items);
  job.options.timeout = kOperation;
  job.plan = std::move(plan);
  job.verify = draw(2) == 0;  // its seal alone must tell
  job.clock = &cluster_.clock();
  job.checked = [this, state = match.state()](FetchList rest, TransferOptions options,
                                              MixedFetch::Reported reported) {
    life_->loop.spawn(fetch_rest(state, std::move(rest), std::move(options), std::move(reported)));
  };
  job.reported = [&outcome, &ended](Result<TransferReport> report) {
    outcome = std::move(report);
    ended.finish({});
  };
  const auto mixed = std::make_shared<MixedFetch>(std::move(job));
  mixed->start();
  const TimePoint late = life_->loop.now() + std::chrono::milliseconds(draw(20));
  co_await life_->loop.sleep_until(late);
  mixed->copy();
  static_cast<void>(co_await ended);
  co_return std::move(outcome);
}

Task<> Engine::fetch_rest(std::shared_ptr<const Match::State> match, FetchList items,
                          TransferOptions options, MixedFetch::Reported reported) {
  std::shared_ptr<CancelToken> cancel = std::make_shared<CancelToken>();
  Task<Result<TransferReport>> fetching =
      life_->core.fetch(std::move(match), std::move(items), std::move(options), cancel);
  Result<TransferReport> report = co_await fetching;
  reported(std::move(report));
}

Task<> Engine::view_prefix(const Match& match, std::uint64_t conversation) {
  const std::shared_ptr<const ArenaSet> arenas = life_->core.arenas();
  for (std::uint32_t i = 0; arenas && i < match.prefix_blocks(); ++i) {
    FetchItem item;
    item.block = i;
    const Result<std::vector<View>> views =
        view_mapped(*match.state(), {&item, 1}, *arenas, draw(2) == 0);
    if (!views) continue;
    const TimePoint later = life_->loop.now() + std::chrono::milliseconds(draw(60));
    co_await life_->loop.sleep_until(later);
    const View& view = views->front();
    const std::vector<std::byte> read(view.bytes().begin(), view.bytes().end());
    const std::uint64_t block = block_id(conversation, i);
    if (!view.finish()) {
      ++ledger_.counts.stale_views;
    } else {
      check_bytes(block, read, "a view was good and showed");
      ++ledger_.counts.viewed;
    }
  }
}

Task<> Engine::store_rest(std::uint64_t conversation, std::uint32_t from, std::uint32_t to) {
  std::vector<std::vector<std::byte>> sources;
  std::vector<StoreItem> items;
  for (std::uint32_t depth = from; depth < to; ++depth) {
    const std::uint64_t block = block_id(conversation, depth);
    sources.push_back(content_of(content_id(block, life_->tenant), size_of(block)));
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

/// Once or more often, and as if others wanted the same at the same time.
Task<> Engine::clear_all() {
  do {
    if (draw(2) == 0) life_->loop.spawn(clear());
    Task<> clearing = clear();
    co_await clearing;
  } while (!resting_ && draw(2) == 0);
}

Task<> Engine::clear() {
  Task<Result<OpenedNamespace>> clearing = life_->core.clear(space_);
  const Result<OpenedNamespace> cleared = co_await clearing;
  if (!cleared) co_return;
  for (std::size_t i = 0; i < cluster_.node_count(); ++i) {
    if (cluster_.node(i) == nullptr) ledger_.counts.meet("a node absent during a clear");
  }
  ledger_.told_era(NamespaceId{cleared->id}, Era{cleared->era});
  if (cleared->era > space_.era) space_ = *cleared;
  ++ledger_.counts.clears;
}

}  // namespace membrain::sim
