#include "tools/torture_engine.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "tools/content.h"

namespace membrain {
namespace {

using Op = TortureRecord::Op;

constexpr int kPoison = 0xa5;  ///< what a destination holds before bytes land in it
constexpr std::chrono::milliseconds kClearAfter{5000};  ///< and up to twice as much more

HistoryTime now() {
  return SteadyClock().now().time_since_epoch().count();
}

char letter_of(const ItemOutcome& item) {
  if (item.ok) return item.duplicate ? TortureRecord::duplicate : TortureRecord::good;
  if (item.why == Errc::stale || item.why == Errc::not_found) return TortureRecord::lost;
  return item.why == Errc::corrupt ? TortureRecord::corrupt : TortureRecord::other;
}

std::vector<std::vector<std::byte>> buffers_for(const TortureBlocks& blocks,
                                                const std::vector<std::uint64_t>& ids) {
  std::vector<std::vector<std::byte>> buffers;
  for (const std::uint64_t id : ids) {
    buffers.emplace_back(blocks.size_of(id), std::byte{kPoison});
  }
  return buffers;
}

/// What a lookup says of each block. Where its shard is away, nothing.
std::string items_of(const Match& match) {
  std::string items;
  for (std::size_t i = 0; i < match.block_count(); ++i) {
    items += !match.answered(i) ? TortureRecord::other
             : match.has(i)     ? TortureRecord::good
                                : TortureRecord::missing;
  }
  return items;
}

}  // namespace

std::unique_ptr<TortureEngine> TortureEngine::open(const TortureEngineConfig& config, Tell tell) {
  ClientConfig client_config;
  client_config.server = config.server;
  client_config.secret = config.secret;
  client_config.label = config.label;
  client_config.connect_timeout = config.timeout;
  client_config.default_timeout = config.timeout;
  client_config.mapped = config.mapped;
  TortureRecord record;
  record.op = Op::connected;
  record.call = now();
  Result<std::unique_ptr<Client>> client = Client::open(std::move(client_config));
  record.ret = now();
  if (!client) record.outcome = to_string(client.error().code);
  tell(record);
  if (!client) return nullptr;
  std::unique_ptr<TortureEngine> engine(
      new TortureEngine(config, std::move(tell), std::move(*client)));
  for (std::uint32_t space = 0; space < TortureBlocks::kSpaces; ++space) {
    engine->open_namespace(space);
  }
  return engine;
}

TortureEngine::TortureEngine(TortureEngineConfig config, Tell tell, std::unique_ptr<Client> client)
    : config_(std::move(config)),
      tell_(std::move(tell)),
      random_(config_.seed),
      client_(std::move(client)),
      next_clear_(SteadyClock().now() + kClearAfter) {}

TortureRecord TortureEngine::begin(Op op, std::uint32_t space) const {
  TortureRecord record;
  record.op = op;
  record.space = space;
  record.era = spaces_[space].era;
  record.call = now();
  return record;
}

void TortureEngine::announce(TortureRecord record) const {
  record.outcome = TortureRecord::kBegun;
  record.items.assign(record.blocks.size(), TortureRecord::other);
  tell_(record);
}

void TortureEngine::step() {
  const std::uint64_t dice = draw(100);
  if (spaces_[0].id == 0 || spaces_[1].id == 0) return open_namespace(spaces_[0].id == 0 ? 0 : 1);
  if (SteadyClock().now() >= next_clear_) return clear();
  if (dice < 50) return work();
  if (dice < 60) return probe();
  if (dice < 80 && !held_.empty()) return fetch(held_[draw(held_.size())]);
  if (dice < 90 && !held_.empty()) return release(draw(held_.size()));
  store_in_place(draw_prompt());
}

TortureEngine::Prompt TortureEngine::draw_prompt() {
  Prompt prompt;
  prompt.space = static_cast<std::uint32_t>(draw(TortureBlocks::kSpaces));
  const std::uint64_t newest = config_.blocks.round_at(SteadyClock().now());
  const std::uint64_t round = newest > 0 && draw(8) == 0 ? newest - 1 : newest;
  const std::uint64_t conversation = draw(TortureBlocks::kConversations);
  const std::uint64_t length = 1 + draw(TortureBlocks::kDepth);
  for (std::uint64_t depth = 0; depth < length; ++depth) {
    prompt.blocks.push_back(TortureBlocks::id(round, conversation, depth));
  }
  return prompt;
}

std::vector<BlockHash> TortureEngine::hashes_of(const std::vector<std::uint64_t>& blocks) const {
  std::vector<BlockHash> hashes;
  std::ranges::transform(blocks, std::back_inserter(hashes), TortureBlocks::hash_of);
  return hashes;
}

void TortureEngine::open_namespace(std::uint32_t space) {
  TortureRecord record = begin(Op::open, space);
  const Result<OpenedNamespace> opened = client_->open_namespace(config_.blocks.space_of(space));
  record.ret = now();
  if (opened) {
    spaces_[space] = *opened;
    record.era = opened->era;
  } else {
    record.outcome = to_string(opened.error().code);
  }
  tell_(record);
}

/// A prompt as an engine has it: what is there is fetched, the rest is computed and stored.
void TortureEngine::work() {
  const Prompt prompt = draw_prompt();
  TortureRecord record = begin(Op::lookup, prompt.space);
  record.blocks = prompt.blocks;
  Result<Match> match = client_->lookup(spaces_[prompt.space], hashes_of(prompt.blocks));
  record.ret = now();
  std::size_t found = 0;
  if (match) {
    found = match->prefix_blocks();
    record.items = items_of(*match);
    // What has no replica left to name is not pinned, whatever the prefix says.
    while (record.pinned < found && match->part_bytes(record.pinned) > 0) ++record.pinned;
    record.match = record.pinned > 0 ? next_match_++ : 0;
  } else {
    record.outcome = to_string(match.error().code);
    record.items.assign(prompt.blocks.size(), TortureRecord::other);
  }
  tell_(record);
  if (!match) {
    if (match.error().code == Errc::stale) open_namespace(prompt.space);
    return;
  }
  if (record.match != 0) {
    std::vector<std::uint64_t> pinned(
        prompt.blocks.begin(), prompt.blocks.begin() + static_cast<std::ptrdiff_t>(record.pinned));
    held_.push_back({record.match, prompt.space, std::move(pinned), std::move(*match)});
    fetch(held_.back());
  }
  if (found < prompt.blocks.size()) store(prompt, found);
  if (held_.size() > kMostHeld) release(0);
}

void TortureEngine::probe() {
  const Prompt prompt = draw_prompt();
  TortureRecord record = begin(Op::lookup, prompt.space);
  record.blocks = prompt.blocks;
  LookupOptions options;
  options.mode = LookupOptions::Mode::probe;
  options.rule = LookupOptions::Rule::all;
  const Result<Match> match =
      client_->lookup(spaces_[prompt.space], hashes_of(prompt.blocks), options);
  record.ret = now();
  if (!match) record.outcome = to_string(match.error().code);
  record.items = match ? items_of(*match) : std::string(prompt.blocks.size(), TortureRecord::other);
  tell_(record);
  if (!match && match.error().code == Errc::stale) open_namespace(prompt.space);
}

void TortureEngine::fetch(const Held& held) {
  std::vector<std::vector<std::byte>> buffers = buffers_for(config_.blocks, held.blocks);
  std::vector<FetchItem> items(held.blocks.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    items[i].block = static_cast<std::uint32_t>(i);
    // Two pieces, as in a paged layout.
    const std::size_t half = buffers[i].size() / 2;
    items[i].into = {{buffers[i].data(), half},
                     {buffers[i].data() + half, buffers[i].size() - half}};
  }
  TortureRecord record = begin(Op::fetch, held.space);
  record.match = held.number;
  record.blocks = held.blocks;
  const Result<TransferReport> report = client_->fetch(held.match, items);
  record.ret = now();
  note_items({held.space, held.blocks}, 0, report, record);
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (record.items[i] != TortureRecord::good) continue;
    const std::uint64_t content = TortureBlocks::content_of(held.space, held.blocks[i]);
    record.wrong_bytes += count_wrong_bytes(content, buffers[i]);
  }
  tell_(record);
}

void TortureEngine::note_items(const Prompt& prompt, std::size_t from,
                               const Result<TransferReport>& report, TortureRecord& record) const {
  if (!report) record.outcome = to_string(report.error().code);
  for (std::size_t i = from; i < prompt.blocks.size(); ++i) {
    record.items += TortureRecord::other;
    if (report) record.items.back() = letter_of(report->items[i - from]);
    if (record.items.back() == TortureRecord::good) {
      record.bytes += config_.blocks.size_of(prompt.blocks[i]);
    }
  }
}

void TortureEngine::store(const Prompt& prompt, std::size_t from) {
  const std::vector<std::uint64_t> rest(prompt.blocks.begin() + static_cast<std::ptrdiff_t>(from),
                                        prompt.blocks.end());
  std::vector<std::vector<std::byte>> buffers = buffers_for(config_.blocks, rest);
  std::vector<StoreItem> items(rest.size());
  for (std::size_t i = 0; i < rest.size(); ++i) {
    fill_content(TortureBlocks::content_of(prompt.space, rest[i]), buffers[i]);
    items[i].hash = TortureBlocks::hash_of(rest[i]);
    if (from + i > 0) items[i].parent = TortureBlocks::hash_of(prompt.blocks[from + i - 1]);
    items[i].depth = static_cast<std::uint32_t>(from + i);
    items[i].from = {{buffers[i].data(), buffers[i].size()}};
  }
  TortureRecord record = begin(Op::store, prompt.space);
  record.blocks = rest;
  announce(record);
  const Result<TransferReport> report = client_->store(spaces_[prompt.space], items);
  record.ret = now();
  note_items(prompt, from, report, record);
  tell_(record);
  // The memory is ours again: what is still being sent from it would carry other bytes.
  for (std::vector<std::byte>& buffer : buffers) std::ranges::fill(buffer, std::byte{kPoison});
}

/// Some of it is not sealed: the room is given back.
void TortureEngine::store_in_place(const Prompt& prompt) {
  const std::uint64_t block = prompt.blocks.back();
  const std::size_t depth = prompt.blocks.size() - 1;
  ReserveItem item;
  item.hash = TortureBlocks::hash_of(block);
  if (depth > 0) item.parent = TortureBlocks::hash_of(prompt.blocks[depth - 1]);
  item.depth = static_cast<std::uint32_t>(depth);
  item.size = static_cast<std::uint32_t>(config_.blocks.size_of(block));
  TortureRecord record = begin(Op::reserve, prompt.space);
  Result<std::vector<Reservation>> rooms = client_->reserve(spaces_[prompt.space], {&item, 1});
  record.ret = now();
  if (!rooms) record.outcome = to_string(rooms.error().code);
  tell_(record);
  if (!rooms || !rooms->front().granted() || draw(4) == 0) return;
  fill_content(TortureBlocks::content_of(prompt.space, block), rooms->front().bytes());
  record = begin(Op::store, prompt.space);
  record.blocks = {block};
  announce(record);
  const Result<TransferReport> report = client_->seal(std::move(*rooms));
  record.ret = now();
  note_items({prompt.space, {block}}, 0, report, record);
  tell_(record);
}

void TortureEngine::clear() {
  constexpr std::uint32_t kCleared = TortureBlocks::kSpaces - 1;
  const auto pause = static_cast<std::int64_t>(draw(2 * kClearAfter.count()));
  next_clear_ = SteadyClock().now() + kClearAfter + std::chrono::milliseconds(pause);
  TortureRecord record = begin(Op::clear, kCleared);
  announce(record);
  const Result<OpenedNamespace> cleared = client_->clear(spaces_[kCleared]);
  record.ret = now();
  if (cleared) {
    record.next_era = cleared->era;
    spaces_[kCleared] = *cleared;
  } else {
    record.outcome = to_string(cleared.error().code);
  }
  tell_(record);
}

void TortureEngine::release(std::size_t index) {
  TortureRecord record = begin(Op::release, held_[index].space);
  record.match = held_[index].number;
  held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(index));
  record.ret = now();
  tell_(record);
}

void TortureEngine::release_all() {
  while (!held_.empty()) release(0);
}

}  // namespace membrain
