#include "cache/node/shard_links.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace membrain {

namespace {

constexpr Duration kLongWait = std::chrono::hours(1);         // for what comes by itself
constexpr Duration kIdlePoll = std::chrono::milliseconds(1);  // while a question ends

}  // namespace

ShardLinks::ShardLinks(Fabric& fabric, NodeCounters& counters)
    : fabric_(fabric),
      loop_(fabric.loop()),
      counters_(counters),
      door_(fabric.loop(), *this),
      directory_(fabric, config_, [this](const ShardMap& map) { take_map(map); }),
      control_{fabric, counters, config_, slots_, directory_, 0, {}, false},
      retry_(loop_),
      quiet_(loop_) {}

ShardLinks::~ShardLinks() {
  check(!learning_ && retiring_.empty(), "shard links were destroyed while they worked");
  door_.shut();
}

void ShardLinks::configure(LinkConfig config, Door<SlotSide> slots) {
  config_ = std::move(config);
  slots_ = std::move(slots);
  directory_.configure();
  fabric_.set_receiver(*this);
}

void ShardLinks::adopted() {
  if (stopping_ || directory_.map() || std::exchange(learning_, true)) return;
  loop_.spawn(learn_map());
}

Task<> ShardLinks::learn_map() {
  std::uint32_t failures = 0;
  while (!stopping_ && !directory_.map()) {
    Task<Result<>> asking = directory_.ask(false);
    const Result<> asked = co_await asking;
    if (asked || stopping_) break;
    ++failures;
    // The first failures, then ever fewer: servers may be away for days.
    if (failures <= 4 || (failures & (failures - 1)) == 0) {
      log(LogLevel::warn, "node {}: no server at {}: {} ({}); trying on", config_.node.value,
          config_.server, to_string(asked.error().code), asked.error().context);
    }
    Task<> waiting = retry_.until(loop_.now() + directory_.backoff(failures));
    co_await waiting;
  }
  learning_ = false;
  quiet_.end();
}

void ShardLinks::take_map(const ShardMap& map) {
  if (stopping_) return;
  std::vector<ShardId> shards;
  for (std::size_t i = 0; i < map.count(); ++i) shards.push_back(map.shard(i));
  counters_.shards.store(shards.size());
  log(LogLevel::info, "node {}: {} shards by version {} of their map", config_.node.value,
      shards.size(), map.version());
  static_cast<void>(slots_.post([shards](SlotSide& slots) { slots.mapped(shards); }));
  for (auto next = links_.begin(); next != links_.end();) {
    const auto at = next++;
    if (map.index_of(at->first) < map.count()) continue;
    loop_.spawn(retire(std::move(at->second)));
    links_.erase(at);
  }
  for (std::size_t i = 0; i < map.count(); ++i) {
    std::unique_ptr<ShardLink>& link = links_[map.shard(i)];
    if (link) {
      link->set_range(map.range(i));
    } else {
      link = std::make_unique<ShardLink>(control_, map.shard(i), map.range(i));
      link->start();
    }
  }
}

Task<> ShardLinks::retire(std::unique_ptr<ShardLink> link) {
  retiring_.push_back(link.get());
  Task<> stopping = link->stop();
  co_await stopping;
  std::erase(retiring_, link.get());
  quiet_.end();
}

void ShardLinks::leave() {
  if (std::exchange(control_.leaving, true)) return;
  static_cast<void>(slots_.post([](SlotSide& slots) { slots.take_no_more(); }));
  for (const auto& [shard, link] : links_) link->leave();
}

Task<> ShardLinks::stop() {
  stopping_ = true;
  retry_.end();
  for (const auto& [shard, link] : links_) link->begin_stop();
  directory_.stop();
  for (const auto& [shard, link] : links_) {
    Task<> stopping = link->stop();
    co_await stopping;
  }
  while (learning_ || !retiring_.empty() || !directory_.idle()) {
    Task<> ended = quiet_.until(loop_.now() + kIdlePoll);
    co_await ended;
  }
  const Result<> posted = slots_.post([](SlotSide& slots) { slots.stop(); });
  while (posted && !slots_quiet_) {
    Task<> ended = quiet_.until(loop_.now() + kLongWait);
    co_await ended;
  }
}

void ShardLinks::slots_quiet() {
  slots_quiet_ = true;
  quiet_.end();
}

// ---- what arrives

void ShardLinks::on_message(PeerId peer, std::span<const std::byte> frame, Payload) {
  if (directory_.speaks_with(peer)) return directory_.on_message(peer, frame);
  if (ShardLink* const link = with(peer)) link->on_message(peer, frame);
}

void ShardLinks::on_lost(PeerId peer, const Error& why) {
  if (directory_.speaks_with(peer)) return directory_.on_lost(peer);
  if (ShardLink* const link = with(peer)) link->on_lost(peer, why);
}

/// Null if that is nobody of ours any more.
ShardLink* ShardLinks::with(PeerId peer) const {
  for (const auto& [shard, link] : links_) {
    if (link->peer() == peer) return link.get();
  }
  const auto found = std::find_if(retiring_.begin(), retiring_.end(),
                                  [&](const ShardLink* link) { return link->peer() == peer; });
  return found == retiring_.end() ? nullptr : *found;
}

// ---- what the data loop says

ShardLink* ShardLinks::find(LinkId link) const {
  const auto found = links_.find(link.shard);
  return found == links_.end() ? nullptr : found->second.get();
}

void ShardLinks::portion(LinkId link, std::vector<wire::SlotEntry> entries, bool last) {
  if (ShardLink* const to = find(link)) to->portion(link, std::move(entries), last);
}

void ShardLinks::publish(LinkId link, std::vector<wire::SlotEntry> entries) {
  if (ShardLink* const to = find(link)) to->publish(link, std::move(entries));
}

void ShardLinks::need(LinkId link, std::vector<Need> needs) {
  if (ShardLink* const to = find(link)) to->need(link, std::move(needs));
}

void ShardLinks::freed(LinkId link, std::vector<wire::SlotRef> slots) {
  if (ShardLink* const to = find(link)) to->freed(link, std::move(slots));
}

void ShardLinks::copied(LinkId link, std::vector<wire::CopyEnd> ends) {
  if (ShardLink* const to = find(link)) to->copied(link, std::move(ends));
}

void ShardLinks::corrupt(LinkId link, wire::SlotRef at) {
  if (ShardLink* const to = find(link)) to->corrupt(link, at);
}

}  // namespace membrain
