#include "server/replica_watch.h"

#include <algorithm>
#include <array>
#include <utility>

namespace membrain {

using wire::ItemStatus;

ReplicaWatch::ReplicaWatch(Catalog& catalog, const Nodes& nodes, const Namespaces& spaces,
                           CopyLimits limits, TimePoint start)
    : catalog_(catalog),
      nodes_(nodes),
      spaces_(spaces),
      limits_(limits),
      budget_(limits.bytes_per_second, start),
      leavers_(catalog, nodes, spaces),
      next_sweep_(start) {}

NodeCopies& ReplicaWatch::of(NodeIndex node) {
  if (of_node_.size() <= node) of_node_.resize(std::size_t{node} + 1);
  return of_node_[node];
}

// ---- what is degraded

bool ReplicaWatch::is_degraded(const Entry& entry) const noexcept {
  const std::size_t wanted = entry.thin ? 1 : spaces_[entry.space].rule.replicas;
  if (wanted < 2 && !leavers_.any()) return false;
  if (entry.replicas == kNoRef || over(entry)) return false;
  const Kept count = kept(catalog_, nodes_, entry);
  return count.all() > 0 && count.staying < wanted;
}

void ReplicaWatch::look(Ref ref) {
  Entry& entry = catalog_.entry(ref);
  const bool degraded = is_degraded(entry);
  if (degraded != entry.degraded) {
    entry.degraded = degraded;
    degraded ? ++degraded_ : --degraded_;
  }
  if (degraded && !entry.queued && !entry.copying) enqueue({ref});
}

void ReplicaWatch::lost(Ref ref) {
  catalog_.entry(ref).thin = false;
  look(ref);
}

void ReplicaWatch::enqueue(Waiting block) {
  if (queue_.size() >= kMostQueued) {
    missed_ = true;
    return;
  }
  catalog_.entry(block.entry).queued = true;
  queue_.push_back(block);
}

void ReplicaWatch::wait(Waiting block, TimePoint until) {
  if (waiting_.size() >= kMostWaiting) {
    missed_ = true;
    return;
  }
  catalog_.entry(block.entry).queued = true;
  waiting_.emplace(until, block);
}

void ReplicaWatch::touched(std::span<const Ref> entries, TimePoint now) {
  if (limits_.hot_lookups == 0) return;
  for (const Ref ref : entries) {
    const std::uint32_t count = heat_.touch(ref, now);
    if (count < limits_.hot_lookups || hot_.size() >= kMostHot) continue;
    Entry& entry = catalog_.entry(ref);
    const Waiting block{ref, 0, true};
    const std::size_t replicas = staying(entry);
    if (entry.queued || entry.copying || replicas == 0 || replicas >= wanted(block, now)) continue;
    entry.queued = true;
    hot_.push_back(block);
  }
}

std::size_t ReplicaWatch::wanted(const Waiting& block, TimePoint now) const noexcept {
  const Entry& entry = catalog_.entry(block.entry);
  const std::size_t usual = entry.thin ? 1 : spaces_[entry.space].rule.replicas;
  if (!block.hot) return usual;
  const std::size_t hot = 1 + heat_.count(block.entry, now) / limits_.hot_lookups;
  return std::clamp<std::size_t>(hot, usual, wire::kMaxReplicas);
}

// ---- nodes

void ReplicaWatch::node_registered(NodeIndex node, TimePoint now) {
  of(node).registered = now;
  of(node).full_until = {};
}

void ReplicaWatch::node_gone(NodeIndex node, TimePoint now) {
  for (auto copy = copies_.begin(); copy != copies_.end();) {
    const auto next = std::next(copy);
    if (copy->second.to == node) end(copy, ItemStatus::cancelled, now);
    copy = next;
  }
}

void ReplicaWatch::node_in_doubt(NodeIndex node, TimePoint now) {
  NodeCopies& doubted = of(node);
  const Duration time = kFirstDoubt * (1U << doubted.doubts);
  doubted.avoid_until = now + time;
  doubted.doubts = std::min(doubted.doubts + 1, kMostDoubts);
}

/// Whoever has registered of late may be about to report what seems lost.
bool ReplicaWatch::all_reported(TimePoint now) const noexcept {
  for (NodeIndex i = 0; i < std::min<std::size_t>(nodes_.end(), of_node_.size()); ++i) {
    const bool awaited = nodes_[i].registered && nodes_[i].connected && !nodes_[i].reported;
    if (awaited && now - of_node_[i].registered < kReportPatience) return false;
  }
  return true;
}

void ReplicaWatch::leavers_changed() {
  leavers_.changed();
  recount();
}

// ---- the passing of time

void ReplicaWatch::node_reported() {
  if (degraded_ > 0) recount();
}

void ReplicaWatch::recount() {
  sweeping_ = true;
  sweep_next_ = 0;
}

void ReplicaWatch::tick(TimePoint now) {
  expire(now);
  while (!waiting_.empty() && waiting_.begin()->first <= now) {
    queue_.push_back(waiting_.begin()->second);
    waiting_.erase(waiting_.begin());
  }
  if (missed_ && !sweeping_ && !crowded() && now >= next_sweep_) {
    missed_ = false;
    next_sweep_ = now + kSweepPause;
    recount();
  }
  if (recounting()) sweep();
  leavers_.tick(now);
}

void ReplicaWatch::sweep() {
  const Ref end = catalog_.records().entries.end();
  for (std::size_t looked = 0; looked < kSweepEntries; ++looked, ++sweep_next_) {
    if (sweep_next_ >= end) {
      sweeping_ = false;
      return;
    }
    if (crowded()) return;
    if (catalog_.entry(sweep_next_).in_use()) look(sweep_next_);
  }
}

void ReplicaWatch::expire(TimePoint now) {
  for (auto copy = copies_.begin(); copy != copies_.end();) {
    const auto next = std::next(copy);
    if (copy->second.deadline + kGraceTime <= now) end(copy, ItemStatus::unavailable, now);
    copy = next;
  }
}

// ---- copies

/// The next block that still waits: what was freed, or copied, meanwhile does not.
bool ReplicaWatch::take(Waiting& block) {
  std::size_t looked = 0;
  for (std::deque<Waiting>* const from : {&queue_, &hot_}) {
    for (; !from->empty() && looked < kMostSkipped; ++looked) {
      block = from->front();
      from->pop_front();
      Entry& entry = catalog_.entry(block.entry);
      if (!entry.in_use() || !entry.queued) continue;
      entry.queued = false;
      if (block.hot || entry.degraded) return true;
    }
  }
  return false;
}

std::vector<wire::CopyBlocks> ReplicaWatch::orders(TimePoint now) {
  const bool wanted = !queue_.empty() || !hot_.empty();
  if (!wanted && copies_.empty()) return {};
  budget_.pass(now);
  if (wanted) begin_some(now);
  return untold(now);
}

void ReplicaWatch::begin_some(TimePoint now) {
  bool may_begin = all_reported(now);
  Waiting block;
  for (std::size_t tries = 0; may_begin && tries < kMostTries; ++tries) {
    if (copies_.size() >= kMostCopies || !budget_.open() || !take(block)) break;
    switch (begin(block, now)) {
      case Choice::busy:
        may_begin = false;
        block.hot ? look(block.entry) : enqueue(block);
        break;
      case Choice::full:
        block.hot ? look(block.entry) : wait(block, now + kFullDelay);
        break;
      case Choice::made:
      case Choice::none:
        break;
    }
  }
}

/// Orders that are new, or were not answered for a while.
std::vector<wire::CopyBlocks> ReplicaWatch::untold(TimePoint now) {
  std::vector<wire::CopyBlocks> messages;
  for (auto& [id, copy] : copies_) {
    if (copy.told != TimePoint{} && now < copy.told + kResend) continue;
    copy.told = now;
    const NodeId to = nodes_[copy.to].id;
    const NodeId from = nodes_[copy.from].id;
    auto message = std::ranges::find_if(messages, [&](const wire::CopyBlocks& one) {
      return one.node == to && one.source == from && one.items.size() < wire::kMaxCopyItems;
    });
    if (message == messages.end()) {
      message = messages.emplace(messages.end());
      message->node = to;
      message->incarnation = nodes_[copy.to].incarnation;
      message->source = from;
      message->address = nodes_[copy.from].address;
      message->deadline_ms = static_cast<std::uint32_t>(
          std::chrono::duration_cast<std::chrono::milliseconds>(kCopyTime).count());
    }
    message->items.push_back(copy.item);
  }
  return messages;
}

Choice ReplicaWatch::begin(const Waiting& block, TimePoint now) {
  const Entry& entry = catalog_.entry(block.entry);
  // What engines lend, and nodes that leave have, is none too few for those that must stay.
  const bool full = block.hot && catalog_.replica_count(block.entry) >= wire::kMaxReplicas;
  if (entry.copying || over(entry) || full) return Choice::none;
  if (staying(entry) >= wanted(block, now)) return Choice::none;
  std::array<NodeIndex, wire::kMaxReplicas> holders{};
  std::array<Ref, wire::kMaxReplicas> at{};
  std::size_t count = 0;
  for (Ref ref = catalog_.sound(entry.replicas); ref != kNoRef && count < holders.size();
       ref = catalog_.sound(catalog_.replica(ref).next)) {
    if (catalog_.replica(ref).tier != Tier::host) continue;
    holders[count] = catalog_.replica(ref).node;
    at[count++] = ref;
  }
  if (count == 0) return Choice::none;
  const std::span held(holders.data(), count);
  if (nodes_.end() > 0) of(static_cast<NodeIndex>(nodes_.end() - 1));
  const Target target = choose_target(nodes_, of_node_, held, spaces_[entry.space].rule.zones,
                                      catalog_.replica(at[0]).length, now);
  if (target.choice != Choice::made) return target.choice;
  const NodeIndex giver = choose_giver(nodes_, of_node_, held);
  if (giver == Nodes::kNoNode) return Choice::busy;
  const auto place = static_cast<std::size_t>(std::ranges::find(held, giver) - held.begin());
  order(block, at[place], target.node, now);
  return Choice::made;
}

void ReplicaWatch::order(const Waiting& block, Ref source, NodeIndex target, TimePoint now) {
  Entry& entry = catalog_.entry(block.entry);
  const Replica& replica = catalog_.replica(source);
  Copy copy;
  copy.of = block;
  copy.name = entry.name();
  copy.from = replica.node;
  copy.to = target;
  copy.deadline = now + kCopyTime;
  wire::CopyItem& item = copy.item;
  item.copy = CopyId{++last_copy_};
  item.meta.space = spaces_[entry.space].id;
  item.meta.era = entry.era;
  item.meta.key = entry.key;
  if (entry.parent != kNoRef) item.meta.parent = catalog_.entry(entry.parent).key;
  item.meta.depth = entry.depth;
  item.meta.part = entry.part;
  item.meta.priority = entry.priority;
  item.meta.intent = wire::StoreIntent::replica;
  item.at = {replica.slot, replica.generation};
  item.length = replica.length;
  item.checksum = replica.checksum;
  entry.copying = true;
  ++of(copy.from).giving;
  ++of(copy.to).taking;
  of(copy.to).coming_bytes += item.length;
  budget_.spend(item.length);
  copies_.emplace(item.copy, copy);
}

bool ReplicaWatch::arrived(const Copy& copy) const noexcept {
  for (Ref at = catalog_.sound(catalog_.entry(copy.of.entry).replicas); at != kNoRef;
       at = catalog_.sound(catalog_.replica(at).next)) {
    if (catalog_.replica(at).node == copy.to) return true;
  }
  return false;
}

void ReplicaWatch::ended(NodeIndex node, const wire::CopiesEnded& message, TimePoint now) {
  for (const wire::CopyEnd& item : message.items) {
    const auto copy = copies_.find(item.copy);
    if (copy != copies_.end() && copy->second.to == node) end(copy, item.status, now);
  }
}

void ReplicaWatch::end(Copies::iterator at, ItemStatus status, TimePoint now) {
  const Copy copy = at->second;
  copies_.erase(at);
  --of(copy.from).giving;
  --of(copy.to).taking;
  of(copy.to).coming_bytes -= copy.item.length;
  if (status == ItemStatus::full) of(copy.to).full_until = now + kFullDelay;
  Entry& entry = catalog_.entry(copy.of.entry);
  const bool same = entry.in_use() && entry.copying && entry.name() == copy.name;
  const bool there = same && arrived(copy);
  if (there) {
    ++totals_.copied;
    totals_.copied_bytes += copy.item.length;
    if (copy.of.hot) ++totals_.hot;
  } else {
    ++totals_.failed;
  }
  if (!same) return;  // evicted, or cleared, meanwhile
  entry.copying = false;
  const bool blameless = status == ItemStatus::full || status == ItemStatus::cancelled;
  if (there || copy.of.hot || blameless || !entry.degraded) return look(copy.of.entry);
  failed(copy.of, now);
}

/// Again, later; at last never, until something of it is lost anew.
void ReplicaWatch::failed(Waiting block, TimePoint now) {
  if (++block.attempts < kMostAttempts) {
    return wait(block, now + kFirstDelay * (1U << (block.attempts - 1)));
  }
  ++totals_.given_up;
  catalog_.entry(block.entry).thin = true;
  look(block.entry);
}

const char* ReplicaWatch::check_invariants() const {
  std::size_t degraded = 0;
  std::size_t copying = 0;
  const Slab<Entry>& entries = catalog_.records().entries;
  for (Ref ref = 0; ref < entries.end(); ++ref) {
    const Entry& entry = entries[ref];
    if (!entry.in_use()) continue;
    if (entry.degraded) ++degraded;
    if (entry.copying) ++copying;
    if (!sweeping_ && entry.degraded != is_degraded(entry)) return "a degraded block is unknown";
  }
  if (degraded != degraded_) return "the count of degraded blocks is wrong";
  if (copying > copies_.size()) return "a block is being copied by nobody";
  std::vector<NodeCopies> sums(of_node_.size());
  for (const auto& [id, copy] : copies_) {
    ++sums[copy.from].giving, ++sums[copy.to].taking;
    sums[copy.to].coming_bytes += copy.item.length;
  }
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const bool same = sums[i].giving == of_node_[i].giving &&
                      sums[i].taking == of_node_[i].taking &&
                      sums[i].coming_bytes == of_node_[i].coming_bytes;
    if (!same) return "copies under way do not add up";
  }
  return "";
}

}  // namespace membrain
