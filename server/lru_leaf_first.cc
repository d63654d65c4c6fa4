#include "server/lru_leaf_first.h"

#include <algorithm>

#include "base/check.h"

namespace membrain {

std::uint32_t LruLeafFirst::shelf_of(NodeIndex node, std::uint32_t slot_bytes,
                                     std::uint8_t priority) {
  std::vector<std::uint32_t>& of_class = classes_[class_key(node, slot_bytes)];
  const auto place = std::find_if(of_class.begin(), of_class.end(), [&](std::uint32_t shelf) {
    return shelves_[shelf].priority >= priority;
  });
  if (place != of_class.end() && shelves_[*place].priority == priority) return *place;
  const auto shelf = static_cast<std::uint32_t>(shelves_.size());
  shelves_.push_back({node, priority, slot_bytes, {}, {}});
  of_class.insert(place, shelf);
  return shelf;
}

LruLeafFirst::List& LruLeafFirst::list_of(const Replica& replica) noexcept {
  Shelf& shelf = shelves_[replica.shelf];
  return replica.standing == Standing::parked ? shelf.parked : shelf.listed;
}

bool LruLeafFirst::has_children(Ref replica) const noexcept {
  return records_.entries[records_.replicas[replica].entry].children > 0;
}

void LruLeafFirst::push_warm(Ref ref, Standing standing) {
  Replica& replica = records_.replicas[ref];
  replica.standing = standing;
  List& list = list_of(replica);
  replica.colder = list.warmest;
  replica.warmer = kNoRef;
  (list.warmest == kNoRef ? list.coldest : records_.replicas[list.warmest].warmer) = ref;
  list.warmest = ref;
  ++list.count;
}

void LruLeafFirst::push_cold(Ref ref) {
  Replica& replica = records_.replicas[ref];
  replica.standing = Standing::listed;
  List& list = list_of(replica);
  replica.warmer = list.coldest;
  replica.colder = kNoRef;
  (list.coldest == kNoRef ? list.warmest : records_.replicas[list.coldest].colder) = ref;
  list.coldest = ref;
  ++list.count;
}

void LruLeafFirst::take_out(Ref ref) noexcept {
  Replica& replica = records_.replicas[ref];
  List& list = list_of(replica);
  (replica.colder == kNoRef ? list.coldest : records_.replicas[replica.colder].warmer) =
      replica.warmer;
  (replica.warmer == kNoRef ? list.warmest : records_.replicas[replica.warmer].colder) =
      replica.colder;
  replica.colder = replica.warmer = kNoRef;
  replica.standing = Standing::held;
  --list.count;
}

void LruLeafFirst::add(Ref ref, std::uint32_t slot_bytes) {
  Replica& replica = records_.replicas[ref];
  replica.shelf = shelf_of(replica.node, slot_bytes, records_.entries[replica.entry].priority);
  replica.standing = Standing::held;
}

void LruLeafFirst::release(Ref ref) {
  check(records_.replicas[ref].standing == Standing::held, "a replica was released twice");
  push_warm(ref, Standing::listed);
}

void LruLeafFirst::hold(Ref ref) {
  if (records_.replicas[ref].standing != Standing::held) take_out(ref);
}

void LruLeafFirst::childless(Ref ref) {
  if (records_.replicas[ref].standing != Standing::parked) return;
  take_out(ref);
  push_cold(ref);
}

Ref LruLeafFirst::next_leaf(Shelf& shelf) {
  while (shelf.listed.coldest != kNoRef) {
    const Ref candidate = shelf.listed.coldest;
    if (!has_children(candidate)) return candidate;
    take_out(candidate);
    push_warm(candidate, Standing::parked);
  }
  return kNoRef;
}

Ref LruLeafFirst::victim(NodeIndex node, std::uint32_t slot_bytes) {
  const auto of_class = classes_.find(class_key(node, slot_bytes));
  if (of_class == classes_.end()) return kNoRef;
  for (const std::uint32_t shelf : of_class->second) {
    if (const Ref leaf = next_leaf(shelves_[shelf]); leaf != kNoRef) return leaf;
  }
  for (const std::uint32_t shelf : of_class->second) {
    if (const Ref parked = shelves_[shelf].parked.coldest; parked != kNoRef) return parked;
  }
  return kNoRef;
}

std::uint32_t LruLeafFirst::slot_bytes(Ref replica) const noexcept {
  return shelves_[records_.replicas[replica].shelf].slot_bytes;
}

const char* LruLeafFirst::check_list(const List& list, std::uint32_t shelf,
                                     Standing standing) const {
  std::size_t count = 0;
  Ref before = kNoRef;
  for (Ref at = list.coldest; at != kNoRef; at = records_.replicas[at].warmer) {
    const Replica& replica = records_.replicas[at];
    if (!replica.in_use()) return "a list holds a replica that is gone";
    if (replica.colder != before) return "a list's links disagree";
    if (replica.shelf != shelf || replica.standing != standing) return "a replica in a wrong list";
    if (records_.entries[replica.entry].pins != 0) return "a pinned replica is a candidate";
    if (standing == Standing::parked && !has_children(at)) return "a leaf is parked";
    before = at;
    if (++count > list.count) return "a list is longer than it says";
  }
  if (count != list.count || before != list.warmest) return "a list is shorter than it says";
  return "";
}

const char* LruLeafFirst::check_lists() const {
  std::size_t in_lists = 0;
  for (std::uint32_t i = 0; i < shelves_.size(); ++i) {
    const Shelf& shelf = shelves_[i];
    if (const char* wrong = check_list(shelf.listed, i, Standing::listed); *wrong) return wrong;
    if (const char* wrong = check_list(shelf.parked, i, Standing::parked); *wrong) return wrong;
    in_lists += shelf.listed.count + shelf.parked.count;
  }
  std::size_t candidates = 0;
  for (Ref ref = 0; ref < records_.replicas.end(); ++ref) {
    const Replica& replica = records_.replicas[ref];
    if (!replica.in_use()) continue;
    const bool may_go = records_.entries[replica.entry].pins == 0;
    if (may_go != (replica.standing != Standing::held)) {
      return may_go ? "an unpinned replica is in no list" : "a pinned replica is in a list";
    }
    if (may_go) ++candidates;
  }
  return candidates == in_lists ? "" : "lists and candidates differ";
}

}  // namespace membrain
