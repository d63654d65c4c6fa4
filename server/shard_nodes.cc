// The shard's nodes: what they publish and report, and what they are to free.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "server/shard.h"

namespace membrain {

using wire::ItemStatus;

namespace {

/// A node whose connection broke is back within this time, or its process has died.
constexpr Duration kReturnPatience = std::chrono::milliseconds(500);

const BlockKey& key_of(const wire::SlotEntry& item) noexcept {
  return item.meta.key;
}

}  // namespace

Result<NodeIndex> Shard::heard(NodeId id, Incarnation incarnation, TimePoint now) {
  const NodeIndex node = nodes_.find(id);
  if (node == Nodes::kNoNode || !nodes_[node].is(incarnation)) {
    return fail(Errc::denied, "this node is not registered");
  }
  nodes_[node].heard = now;
  return node;
}

wire::Accepted Shard::accepted() const noexcept {
  wire::Accepted accepted;
  accepted.epoch = epoch();
  accepted.grant_key = params_.grant_key;
  accepted.ttl_ms = static_cast<std::uint32_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(params_.node_ttl).count());
  accepted.map_version = params_.term.map_version;
  return accepted;
}

bool Shard::registered(NodeId id, Incarnation incarnation) const noexcept {
  const NodeIndex node = nodes_.find(id);
  return node != Nodes::kNoNode && nodes_[node].is(incarnation);
}

Result<wire::Accepted> Shard::register_node(const wire::RegisterNode& request, TimePoint now) {
  if (!request.node || !request.incarnation) {
    return fail(Errc::invalid_argument, "a node has an id and an incarnation");
  }
  const NodeIndex index = nodes_.find_or_add(request.node);
  if (index == Nodes::kNoNode) return fail(Errc::out_of_capacity, "too many nodes");
  Node& node = nodes_[index];
  if (node.registered && request.incarnation < node.incarnation) {
    return fail(Errc::stale, "a later life of this node is registered");
  }
  if (node.registered) drop_nodes({&index, 1}, now);
  const bool came_back = std::exchange(node.leaving, false);
  if (came_back) copies_.leavers_changed();
  copies_.node_registered(index, now);
  node.incarnation = request.incarnation;
  node.address = request.address;
  node.host = request.host;
  node.door = request.door;
  node.tier = request.tier;
  node.zone = request.zone;
  node.capacity_bytes = request.capacity_bytes;
  node.free_bytes = 0;
  node.moved_bytes = node.load_bytes = 0;
  node.moved_at = {};
  node.heard = now;
  node.registered = node.connected = true;
  node.reported = false;
  node.next_portion = 0;
  node.condemned = {};
  log(LogLevel::info, "node {} (life {}) at {}: registered", node.id.value, node.incarnation.value,
      node.address);
  return accepted();
}

void Shard::disconnected(NodeId id) {
  const NodeIndex index = nodes_.find(id);
  if (index == Nodes::kNoNode) return;
  Node& node = nodes_[index];
  node.connected = false;
  // It counts as silent for so long that this much of its time to live is left.
  node.heard = std::min(node.heard, last_tick_ + kReturnPatience - params_.node_ttl);
}

/// Forgets every replica of these nodes. What was pinned stays as a ghost. One walk for all of
/// them, and no further than to the last: a rack that dies is a lot of nodes.
void Shard::drop_nodes(std::span<const NodeIndex> nodes, TimePoint now) {
  std::vector<bool> dropped(nodes_.end());
  std::size_t left = 0;
  for (const NodeIndex node : nodes) {
    dropped[node] = true;
    left += catalog_.replicas_of(node);
  }
  for (Ref ref = 0; left > 0 && ref < records_.replicas.end(); ++ref) {
    const Replica& replica = records_.replicas[ref];
    if (!replica.in_use() || !dropped[replica.node]) continue;
    const Ref entry = replica.entry;
    catalog_.remove_replica(ref);
    copies_.lost(entry);
    catalog_.settle(entry);
    --left;
  }
  for (const NodeIndex node : nodes) {
    copies_.node_gone(node, now);
    nodes_[node].condemned = {};
  }
}

// ---- what a node holds

Result<wire::Published> Shard::publish(const wire::Publish& request, TimePoint now) {
  const Result<NodeIndex> node = heard(request.node, request.incarnation, now);
  if (!node) return fail(node.error());
  if (!has_all(request.items, key_of)) return fail(kElsewhere);
  wire::Published published;
  published.statuses.reserve(request.items.size());
  for (const wire::SlotEntry& item : request.items) {
    const ItemStatus verdict = take(*node, item, Source::publication, now);
    if (verdict != ItemStatus::ok) note_turned_down(*node, item);
    published.statuses.push_back(verdict);
  }
  return published;
}

/// Should the publication come again, the slot may hold something else by then.
void Shard::note_turned_down(NodeIndex node, const wire::SlotEntry& item) {
  const Ref held = catalog_.replica_at(node, item.slot);
  const bool ours = held != kNoRef && records_.replicas[held].generation == item.generation;
  if (ours) return;
  drop_uses(node, {item.slot, item.generation});
  nodes_[node].condemned.note_gone({item.slot, item.generation});
}

/// The node has ended this use of its slot, and with it those before.
void Shard::drop_uses(NodeIndex node, const wire::SlotRef& until) {
  const Ref held = catalog_.replica_at(node, until.slot);
  if (held == kNoRef || records_.replicas[held].generation > until.generation) return;
  const Ref entry = records_.replicas[held].entry;
  catalog_.remove_replica(held);
  copies_.look(entry);
  catalog_.settle(entry);
}

Result<wire::Reported> Shard::report(const wire::Report& request, TimePoint now) {
  const Result<NodeIndex> index = heard(request.node, request.incarnation, now);
  if (!index) return fail(index.error());
  if (!has_all(request.items, key_of)) return fail(kElsewhere);
  Node& node = nodes_[*index];
  if (request.portion > node.next_portion) {
    return fail(Errc::invalid_argument, "a portion of the report was left out");
  }
  const bool fresh = request.portion == node.next_portion && !node.reported;
  wire::Reported reported;
  reported.statuses.reserve(request.items.size());
  for (const wire::SlotEntry& item : request.items) {
    reported.statuses.push_back(fresh ? take(*index, item, Source::report, now)
                                      : taken_before(*index, item));
  }
  if (fresh) {
    ++node.next_portion;
    node.reported = request.last;
    if (request.last) copies_.node_reported();
  }
  return reported;
}

/// Takes one slot into the catalog, if it belongs there.
ItemStatus Shard::take(NodeIndex node, const wire::SlotEntry& item, Source source, TimePoint now) {
  const wire::BlockMeta& meta = item.meta;
  const bool sane = meta.key && item.generation && item.length > 0 &&
                    item.length <= item.slot_bytes && meta.part < wire::kMaxParts;
  const SpaceIndex space = sane ? spaces_.find_or_add(meta.space) : kNoSpace;
  if (space == kNoSpace || meta.era > spaces_[space].era) return ItemStatus::refused;
  const BlockName name{meta.key, space, meta.era, meta.part};
  if (nodes_[node].condemned.knows({item.slot, item.generation})) {
    const Ref known = catalog_.find(name);
    const bool here = known != kNoRef && catalog_.has_kept(known);
    return here ? ItemStatus::duplicate : ItemStatus::refused;
  }
  if (const Ref held = catalog_.replica_at(node, item.slot); held != kNoRef) {
    const Generation generation = records_.replicas[held].generation;
    if (item.generation < generation) return ItemStatus::refused;
    if (item.generation == generation) {
      const Ref entry = records_.replicas[held].entry;
      return records_.entries[entry].name() == name ? ItemStatus::ok : ItemStatus::refused;
    }
    drop_uses(node, {item.slot, item.generation});
  }

  const Ref known = catalog_.find(name);
  const bool pinned = known != kNoRef && records_.entries[known].pins > 0;
  const bool ended = meta.era < spaces_[space].era;
  // What was reported may be held from the term before, by somebody who has yet to say so.
  const bool held = source == Source::report && (pinned || in_grace(now));
  if (ended && !held) return ItemStatus::old_era;
  if (known != kNoRef && enough_without(node, known, source, meta.intent)) {
    ++totals_.duplicates;
    return ItemStatus::duplicate;
  }
  adopt(known != kNoRef ? known : catalog_.find_or_add(name), node, item);
  if (ended && !pinned) begin_sweep();
  ++totals_.published;
  return ItemStatus::ok;
}

/// What engines lend may go at any time: beside it a node's copy is none too many, and for that one
/// a place in the answers is left.
bool Shard::enough_without(NodeIndex node, Ref entry, Source source,
                           wire::StoreIntent intent) const noexcept {
  if (nodes_[node].tier == Tier::device) {
    return catalog_.replica_count(entry) >= wire::kMaxReplicas - 1;
  }
  if (!catalog_.has_kept(entry)) return false;
  if (catalog_.has_sound_on(entry, node)) return true;
  // A reported copy may be in a reader's hand: it is kept, however many others there are.
  if (source == Source::report) return false;
  return intent != wire::StoreIntent::replica ||
         kept(catalog_, nodes_, records_.entries[entry]).staying >= wire::kMaxReplicas;
}

void Shard::adopt(Ref ref, NodeIndex node, const wire::SlotEntry& item) {
  Entry& entry = records_.entries[ref];
  if (entry.replicas == kNoRef) {
    entry.priority = item.meta.priority;
    entry.thin = false;  // nothing of it was left
    const bool loose = entry.parent == kNoRef && entry.children == 0;
    if (loose) entry.depth = item.meta.depth;
    // Of another shard's block nothing ever comes here: a ghost for as long as this one lives.
    if (params_.term.range.has(item.meta.parent)) catalog_.link(ref, item.meta.parent);
  }
  Catalog::NewReplica made;
  made.node = node;
  made.slot = item.slot;
  made.generation = item.generation;
  made.length = item.length;
  made.slot_bytes = item.slot_bytes;
  made.checksum = item.checksum;
  made.tier = nodes_[node].tier;
  catalog_.add_replica(ref, made);
  copies_.look(ref);
}

/// What a portion that comes again is answered: is the slot still ours?
ItemStatus Shard::taken_before(NodeIndex node, const wire::SlotEntry& item) const {
  const Ref held = catalog_.replica_at(node, item.slot);
  const bool ours = held != kNoRef && records_.replicas[held].generation == item.generation;
  return ours ? ItemStatus::ok : ItemStatus::refused;
}

Result<wire::CorruptNoted> Shard::corrupt(const wire::Corrupt& request, TimePoint now) {
  const Result<NodeIndex> node = heard(request.node, request.incarnation, now);
  if (!node) return fail(node.error());
  const Ref ref = catalog_.replica_at(*node, request.at.slot);
  if (ref == kNoRef) return wire::CorruptNoted{};
  const Replica& replica = records_.replicas[ref];
  if (replica.generation != request.at.generation || !replica.sound) return wire::CorruptNoted{};
  log(LogLevel::warn, "node {}: the bytes of slot {} are corrupt", request.node.value,
      request.at.slot.value);
  ++totals_.corrupt;
  catalog_.mark_unsound(ref);
  copies_.lost(replica.entry);
  copies_.node_in_doubt(*node, now);
  if (records_.entries[replica.entry].pins == 0) condemn_and_settle(ref);
  return wire::CorruptNoted{};
}

// ---- what a node is to free

bool Shard::may_free(const Node& node, TimePoint now) const noexcept {
  return node.registered && node.reported && !in_grace(now);
}

/// The slot leaves the catalog; its node is told until it has answered.
void Shard::condemn(Ref ref) {
  const Replica& replica = records_.replicas[ref];
  nodes_[replica.node].condemned.add({replica.slot, replica.generation}, policy_.slot_bytes(ref));
  untold_ = true;
  const Ref entry = replica.entry;
  catalog_.remove_replica(ref);
  copies_.look(entry);
}

void Shard::evict(Ref replica) {
  copies_.evicting(records_.replicas[replica].entry);
  condemn_and_settle(replica);
  ++totals_.evicted;
}

void Shard::condemn_and_settle(Ref replica) {
  const Ref entry = records_.replicas[replica].entry;
  condemn(replica);
  catalog_.settle(entry);
}

void Shard::condemn_candidates(NodeIndex node, const std::vector<wire::SlotRef>& candidates) {
  for (const wire::SlotRef& at : candidates) {
    if (nodes_[node].condemned.full()) return;
    const Ref ref = catalog_.replica_at(node, at.slot);
    if (ref == kNoRef || records_.replicas[ref].generation != at.generation) continue;
    if (records_.entries[records_.replicas[ref].entry].pins > 0) continue;
    evict(ref);
  }
}

Result<wire::FreeSlots> Shard::need_slots(const wire::NeedSlots& request, TimePoint now) {
  const Result<NodeIndex> index = heard(request.node, request.incarnation, now);
  if (!index) return fail(index.error());
  Node& node = nodes_[*index];
  if (!may_free(node, now)) return free_slots(node, {});
  condemn_candidates(*index, request.candidates);
  // What the node has not answered for yet counts: a question that comes again costs nothing more.
  const std::size_t wanted = std::min<std::size_t>(request.count, wire::kMaxFreeItems);
  while (node.condemned.waiting(request.slot_bytes) < wanted && !node.condemned.full()) {
    const Ref victim = policy_.victim(*index, request.slot_bytes);
    if (victim == kNoRef) break;
    evict(victim);
  }
  return free_slots(node, node.condemned.repeat(wire::kMaxFreeItems));
}

Result<wire::FreedNoted> Shard::freed(const wire::Freed& request, TimePoint now) {
  const Result<NodeIndex> index = heard(request.node, request.incarnation, now);
  if (!index) return fail(index.error());
  for (const wire::SlotRef& at : request.items) {
    nodes_[*index].condemned.freed(at);
    drop_uses(*index, at);
  }
  return wire::FreedNoted{};
}

Result<wire::NodeAlive> Shard::node_heartbeat(const wire::NodeHeartbeat& request, TimePoint now) {
  const Result<NodeIndex> index = heard(request.node, request.incarnation, now);
  if (!index) return fail(index.error());
  nodes_[*index].free_bytes = request.free_bytes;
  nodes_[*index].moved(request.moved_bytes, now);
  return wire::NodeAlive{};
}

wire::FreeSlots Shard::free_slots(const Node& node, std::vector<wire::SlotRef> slots) const {
  wire::FreeSlots message;
  message.node = node.id;
  message.incarnation = node.incarnation;
  message.epoch = epoch();
  message.items = std::move(slots);
  return message;
}

std::vector<wire::FreeSlots> Shard::untold_frees(TimePoint now) {
  std::vector<wire::FreeSlots> messages;
  if (!std::exchange(untold_, false)) return messages;
  for (NodeIndex i = 0; i < nodes_.end(); ++i) {
    Node& node = nodes_[i];
    if (!node.condemned.any_untold()) continue;
    if (may_free(node, now)) {
      std::vector<wire::SlotRef> slots = node.condemned.untold(wire::kMaxFreeItems);
      if (!slots.empty()) messages.push_back(free_slots(node, std::move(slots)));
    }
    untold_ = untold_ || node.condemned.any_untold();
  }
  return messages;
}

wire::FreeSlots Shard::repeated_frees(NodeId id, TimePoint now) {
  const NodeIndex index = nodes_.find(id);
  if (index == Nodes::kNoNode || !may_free(nodes_[index], now)) return {};
  Node& node = nodes_[index];
  return free_slots(node, node.condemned.repeat(wire::kMaxFreeItems));
}

}  // namespace membrain
