#include "tools/history_book.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <limits>

namespace membrain {

using Kind = BlockEvent::Kind;

namespace {

/// When a block was used, and from which era on.
struct Use {
  HistoryTime first = kNever;
  HistoryTime last = 0;
  std::uint32_t era = std::numeric_limits<std::uint32_t>::max();
};

Use use_of(const std::vector<BlockEvent>& events) {
  Use use;
  for (const BlockEvent& event : events) {
    use.first = std::min({use.first, event.call, event.pinned_from});
    use.last = std::max(use.last, event.ret);
    use.era = std::min(use.era, event.era);
  }
  return use;
}

}  // namespace

BlockEvent HistoryBook::event_of(Kind kind, const HistoryCall& by) {
  BlockEvent event;
  event.kind = kind;
  event.call = by.call;
  event.ret = by.ret;
  event.era = by.era;
  event.client = by.client;
  event.pinned_from = by.call;
  return event;
}

void HistoryBook::opened(const HistoryCall& by) {
  eras_[by.space].push_back(event_of(Kind::opened, by));
}

void HistoryBook::told_stale(const HistoryCall& by) {
  eras_[by.space].push_back(event_of(Kind::stale, by));
}

void HistoryBook::cleared(const HistoryCall& by, std::optional<std::uint32_t> next_era) {
  BlockEvent event = event_of(next_era ? Kind::cleared : Kind::maybe_cleared, by);
  event.next_era = next_era.value_or(0);
  eras_[by.space].push_back(event);
  clears_[by.space].push_back(event);
}

void HistoryBook::looked_up(const HistoryCall& by, std::span<const std::uint64_t> blocks,
                            const std::vector<bool>& found, std::size_t pinned,
                            std::uint64_t match) {
  Pinned holds{by.space, by.call, {}};
  for (std::size_t i = 0; i < blocks.size() && i < found.size(); ++i) {
    if (closed(blocks[i])) continue;
    std::vector<BlockEvent>& events = blocks_[{by.space, blocks[i]}].events;
    BlockEvent event = event_of(found[i] ? Kind::hit : Kind::miss, by);
    if (i < pinned) {
      event.pinned_until = kNever;
      holds.events.emplace_back(blocks[i], events.size());
    }
    events.push_back(event);
  }
  if (!holds.events.empty()) pins_.insert_or_assign({by.client, match}, std::move(holds));
}

void HistoryBook::stored(const HistoryCall& by, std::uint64_t block, Stored outcome) {
  constexpr Kind kKinds[] = {Kind::store, Kind::duplicate, Kind::maybe_store};
  const Kind kind = kKinds[static_cast<std::size_t>(outcome)];
  if (closed(block)) return;
  blocks_[{by.space, block}].events.push_back(event_of(kind, by));
}

void HistoryBook::lost(const HistoryCall& by, std::uint64_t match, std::uint64_t block) {
  const auto pinned = pins_.find({by.client, match});
  if (pinned == pins_.end()) return;  // it was released meanwhile
  if (closed(block)) return;
  std::vector<BlockEvent>& events = blocks_[{by.space, block}].events;
  BlockEvent event = event_of(Kind::lost, by);
  event.pinned_from = pinned->second.from;
  event.pinned_until = kNever;
  // Its pin ends when that of the lookup does.
  pinned->second.events.emplace_back(block, events.size());
  events.push_back(event);
}

void HistoryBook::end_pins(const Pinned& pinned, HistoryTime when) {
  for (const auto& [block, at] : pinned.events) {
    if (!closed(block)) blocks_[{pinned.space, block}].events[at].pinned_until = when;
  }
}

void HistoryBook::released(std::uint32_t client, std::uint64_t match, HistoryTime when) {
  const auto pinned = pins_.find({client, match});
  if (pinned == pins_.end()) return;
  end_pins(pinned->second, when);
  pins_.erase(pinned);
}

void HistoryBook::released_all(std::uint32_t client, HistoryTime when) {
  const auto first = pins_.lower_bound({client, 0});
  auto at = first;
  for (; at != pins_.end() && at->first.first == client; ++at) end_pins(at->second, when);
  pins_.erase(first, at);
}

void HistoryBook::disturbed(std::uint32_t space, std::uint64_t block,
                            const Disturbance& disturbance) {
  if (closed(block)) return;
  blocks_[{space, block}].disturbances.push_back(disturbance);
}

void HistoryBook::judge_one(const std::string& name, std::vector<BlockEvent> events,
                            const BlockRules& rules, Judgement& judgement) {
  judgement.events += events.size();
  const BlockVerdict verdict = judge(std::move(events), rules);
  if (verdict.kind == BlockVerdict::Kind::undecided) ++judgement.undecided;
  if (verdict.kind != BlockVerdict::Kind::anomaly) return;
  ++judgement.anomalies;
  if (judgement.told.size() < Judgement::kMostTold) {
    judgement.told.push_back(name + ": " + verdict.what);
  }
}

/// A read of what a lookup had pinned lasts from that on.
void HistoryBook::count_reads(const std::vector<BlockEvent>& events, const BlockRules& rules,
                              Judgement& judgement) {
  for (const BlockEvent& event : events) {
    const bool read =
        event.kind == Kind::hit || event.kind == Kind::miss || event.kind == Kind::lost;
    if (!read) continue;
    ++judgement.reads;
    const HistoryTime from = std::min(event.call, event.pinned_from);
    const bool excused = std::ranges::any_of(rules.disturbances, [&](const Disturbance& one) {
      return one.begin <= event.ret && one.end >= from;
    });
    judgement.undisturbed += excused ? 0 : 1;
  }
}

/// With what happened to all while it was used. A long run has many clears and disturbances, and
/// few of them touch one block: eras that were over before its own began say nothing of it, nor
/// does what began after its last operation.
void HistoryBook::judge_block(const Name& name, const Block& block, Judgement& judgement) const {
  const Use use = use_of(block.events);
  std::vector<BlockEvent> events = block.events;
  if (const auto clears = clears_.find(name.first); clears != clears_.end()) {
    std::ranges::copy_if(clears->second, std::back_inserter(events), [&](const BlockEvent& clear) {
      return clear.call <= use.last && clear.era + 1 >= use.era;
    });
  }
  BlockRules rules;
  rules.evicts = rules_.evicts;
  rules.disturbances = block.disturbances;
  std::ranges::copy_if(
      rules_.disturbances, std::back_inserter(rules.disturbances),
      [&](const Disturbance& one) { return one.begin <= use.last && one.end >= use.first; });
  ++judgement.blocks;
  count_reads(block.events, rules, judgement);
  judge_one(fmt::format("block {} of namespace {}", name.second, name.first), std::move(events),
            rules, judgement);
}

void HistoryBook::close_below(std::uint64_t end) {
  closed_below_ = std::max(closed_below_, end);
  for (auto at = blocks_.begin(); at != blocks_.end();) {
    const bool over = closed(at->first.second);
    if (over) judge_block(at->first, at->second, closed_);
    at = over ? blocks_.erase(at) : std::next(at);
  }
}

Judgement HistoryBook::judge_all() const {
  Judgement judgement = closed_;
  // No era goes or comes back in a disturbance.
  for (const auto& [space, events] : eras_) {
    judge_one(fmt::format("namespace {}", space), events, {}, judgement);
  }
  for (const auto& [name, block] : blocks_) judge_block(name, block, judgement);
  return judgement;
}

}  // namespace membrain
