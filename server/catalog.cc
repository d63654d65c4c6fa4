#include "server/catalog.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace membrain {

namespace {

/// Both halves of a product: every bit of either factor moves every bit of the result.
std::uint64_t mix(std::uint64_t a, std::uint64_t b) noexcept {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

constexpr std::uint64_t kOdd1 = 0x9e3779b97f4a7c15ull;
constexpr std::uint64_t kOdd2 = 0xd6e8feb86659fd93ull;

}  // namespace

Catalog::Catalog(Records& records, EvictionPolicy& policy, std::size_t expected_blocks,
                 std::uint64_t seed)
    : records_(records),
      policy_(policy),
      seed_(seed | 1),
      by_name_(EntryHash{*this}, expected_blocks),
      by_slot_(SlotHash{*this}, expected_blocks) {}

std::uint64_t Catalog::hash(const BlockName& name) const noexcept {
  const std::uint64_t life = std::uint64_t{name.space} << 32 | name.era.value;
  const std::uint64_t where = mix(life ^ kOdd1, seed_ ^ kOdd2 ^ name.part);
  return mix(name.key.low ^ where, name.key.high ^ seed_ ^ kOdd2);
}

std::uint64_t Catalog::hash(NodeIndex node, SlotId slot) const noexcept {
  return mix((std::uint64_t{node} << 32 | slot.value) ^ seed_, kOdd1);
}

Ref Catalog::find(const BlockName& name, std::uint64_t hashed) const {
  return by_name_.find(hashed, [&](Ref ref) { return records_.entries[ref].name() == name; });
}

Ref Catalog::find(const BlockName& name) const {
  return find(name, hash(name));
}

/// Three steps, each a batch further on than the next: the index, the entry, its replica. So some
/// dozens of names wait for memory at the same time.
void Catalog::find_all(std::span<const BlockName> names, std::span<Ref> into) const {
  std::array<std::array<std::uint64_t, kProbeBatch>, 3> ring;
  const std::size_t batches = (names.size() + kProbeBatch - 1) / kProbeBatch;
  const auto each_of = [&](std::size_t batch, auto step) {
    const std::size_t begin = batch * kProbeBatch;
    const std::size_t end = std::min(begin + kProbeBatch, names.size());
    std::uint64_t* hashed = ring[batch % ring.size()].data();
    for (std::size_t i = begin; i < end; ++i) step(i, *hashed++);
  };
  for (std::size_t batch = 0; batch < batches + 2; ++batch) {
    if (batch >= 2) {
      each_of(batch - 2, [&](std::size_t i, std::uint64_t hashed) {
        into[i] = find(names[i], hashed);
        if (into[i] != kNoRef) prefetch_replica(into[i]);
      });
    }
    if (batch < batches) {
      each_of(batch, [&](std::size_t i, std::uint64_t& hashed) {
        hashed = hash(names[i]);
        by_name_.prefetch(hashed);
      });
    }
    if (batch >= 1 && batch <= batches) {
      each_of(batch - 1, [&](std::size_t, std::uint64_t hashed) {
        const Ref guess = by_name_.guess(hashed);
        if (guess != kNoRef) records_.entries.prefetch(guess);
      });
    }
  }
}

void Catalog::prefetch_replica(Ref entry) const noexcept {
  const Ref first = records_.entries[entry].replicas;
  if (first != kNoRef) records_.replicas.prefetch(first);
}

Ref Catalog::find_or_add(const BlockName& name) {
  const std::uint64_t hashed = hash(name);
  if (const Ref found = find(name, hashed); found != kNoRef) return found;
  const Ref ref = records_.entries.take();
  Entry& made = records_.entries[ref];
  made.key = name.key;
  made.space = name.space;
  made.era = name.era;
  made.part = name.part;
  by_name_.insert(hashed, ref);
  return ref;
}

void Catalog::link(Ref ref, const BlockKey& parent_key) {
  const Entry& child = records_.entries[ref];
  if (!parent_key || child.parent != kNoRef || child.depth == 0) return;
  BlockName name = child.name();
  name.key = parent_key;
  const Ref parent_ref = find_or_add(name);
  Entry& parent = records_.entries[parent_ref];
  const bool made_now = parent.children == 0 && parent.pins == 0 && parent.replicas == kNoRef;
  if (made_now && parent_ref != ref) parent.depth = child.depth - 1;
  if (parent.depth >= child.depth) return;  // itself, a circle, or a publisher in error
  ++parent.children;
  records_.entries[ref].parent = parent_ref;
}

void Catalog::settle(Ref ref) {
  while (ref != kNoRef) {
    const Entry& entry = records_.entries[ref];
    if (entry.replicas != kNoRef || entry.pins != 0 || entry.children != 0) return;
    const Ref parent_ref = entry.parent;
    free_entry(ref);
    ref = parent_ref;
    if (parent_ref == kNoRef) return;
    Entry& parent = records_.entries[parent_ref];
    if (--parent.children > 0) return;
    for (Ref at = parent.replicas; at != kNoRef; at = records_.replicas[at].next) {
      policy_.childless(at);
    }
  }
}

void Catalog::free_entry(Ref ref) {
  by_name_.erase(hash(records_.entries[ref].name()), ref);
  records_.entries.give(ref);
}

void Catalog::pin(Ref ref) {
  Entry& entry = records_.entries[ref];
  if (entry.pins++ > 0) return;
  ++counts_.pinned_blocks;
  for (Ref at = entry.replicas; at != kNoRef; at = records_.replicas[at].next) policy_.hold(at);
}

bool Catalog::unpin(Ref ref) {
  Entry& entry = records_.entries[ref];
  check(entry.pins > 0, "a block was unpinned more often than pinned");
  if (--entry.pins > 0) return false;
  --counts_.pinned_blocks;
  for (Ref at = entry.replicas; at != kNoRef; at = records_.replicas[at].next) policy_.release(at);
  return true;
}

Ref Catalog::add_replica(Ref entry_ref, const NewReplica& made) {
  if (!has_sound(entry_ref)) ++counts_.blocks;
  const Ref ref = records_.replicas.take();
  Replica& replica = records_.replicas[ref];
  replica.generation = made.generation;
  replica.checksum = made.checksum;
  replica.entry = entry_ref;
  replica.slot = made.slot;
  replica.length = made.length;
  replica.node = made.node;
  replica.tier = made.tier;
  Ref* end = &records_.entries[entry_ref].replicas;
  while (*end != kNoRef) end = &records_.replicas[*end].next;
  *end = ref;
  by_slot_.insert(hash(made.node, made.slot), ref);
  ++counts_.replicas;
  if (by_node_.size() <= made.node) by_node_.resize(made.node + std::size_t{1});
  ++by_node_[made.node];
  counts_.bytes += made.length;
  policy_.add(ref, made.slot_bytes);
  if (records_.entries[entry_ref].pins == 0) policy_.release(ref);
  return ref;
}

void Catalog::remove_replica(Ref ref) {
  policy_.hold(ref);
  const Replica& replica = records_.replicas[ref];
  const Ref entry_ref = replica.entry;
  const bool was_sound = replica.sound;
  Ref* link = &records_.entries[entry_ref].replicas;
  while (*link != ref) link = &records_.replicas[*link].next;
  *link = replica.next;
  by_slot_.erase(hash(replica.node, replica.slot), ref);
  --counts_.replicas;
  --by_node_[replica.node];
  counts_.bytes -= replica.length;
  records_.replicas.give(ref);
  if (was_sound && !has_sound(entry_ref)) --counts_.blocks;
}

void Catalog::mark_unsound(Ref ref) {
  Replica& replica = records_.replicas[ref];
  if (!replica.sound) return;
  replica.sound = false;
  if (!has_sound(replica.entry)) --counts_.blocks;
}

Ref Catalog::replica_at(NodeIndex node, SlotId slot) const {
  return by_slot_.find(hash(node, slot), [&](Ref ref) {
    const Replica& replica = records_.replicas[ref];
    return replica.node == node && replica.slot == slot;
  });
}

Ref Catalog::sound(Ref from) const noexcept {
  while (from != kNoRef && !records_.replicas[from].sound) from = records_.replicas[from].next;
  return from;
}

bool Catalog::has_kept(Ref entry) const noexcept {
  for (Ref at = sound(records_.entries[entry].replicas); at != kNoRef;
       at = sound(records_.replicas[at].next)) {
    if (records_.replicas[at].tier == Tier::host) return true;
  }
  return false;
}

bool Catalog::has_sound_on(Ref entry, NodeIndex node) const noexcept {
  for (Ref at = sound(records_.entries[entry].replicas); at != kNoRef;
       at = sound(records_.replicas[at].next)) {
    if (records_.replicas[at].node == node) return true;
  }
  return false;
}

std::size_t Catalog::replica_count(Ref entry) const noexcept {
  std::size_t count = 0;
  for (Ref at = records_.entries[entry].replicas; at != kNoRef; at = records_.replicas[at].next) {
    ++count;
  }
  return count;
}

std::size_t Catalog::bytes() const noexcept {
  return records_.entries.bytes() + records_.replicas.bytes() + by_name_.bytes() + by_slot_.bytes();
}

}  // namespace membrain
