#include "bench/filled_shard.h"

#include <unistd.h>

#include <fstream>
#include <vector>

#include "base/check.h"

namespace membrain {

namespace {

constexpr SessionId kSession{1};

std::size_t resident_now() {
  std::size_t total = 0;
  std::size_t resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

BlockHash bench_hash(std::uint64_t number) {
  // As long as a real one: 32 bytes.
  const std::uint64_t words[4] = {number, number * 3, number * 5, number * 7};
  return BlockHash::from(std::as_bytes(std::span(words))).value();
}

Namespace bench_namespace() {
  Namespace space;
  space.model = "bench";
  return space;
}

BlockKey bench_key(std::uint64_t number) noexcept {
  std::uint64_t mixed = (number + 1) * 0x9e3779b97f4a7c15ull;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ull;
  return {mixed ^ (mixed >> 27), ~mixed * 0x94d049bb133111ebull};
}

wire::SlotEntry bench_entry(NamespaceId space, Era era, std::uint64_t number, BlockKey key,
                            BlockKey parent) {
  wire::SlotEntry item;
  item.meta.space = space;
  item.meta.era = era;
  item.meta.key = key;
  item.meta.depth = static_cast<std::uint32_t>(number % kPromptBlocks);
  if (item.meta.depth > 0) item.meta.parent = parent;
  item.slot = SlotId{static_cast<std::uint32_t>(number)};
  item.generation = Generation{number + 1};
  item.length = item.slot_bytes = kBenchSlotBytes;
  return item;
}

FilledShard::FilledShard(std::uint64_t blocks) : blocks_(blocks / kPromptBlocks * kPromptBlocks) {
  const std::size_t before = resident_now();
  ShardParams params;
  params.term = tenure_.next_term();
  params.expected_blocks = blocks;
  shard_ = std::make_unique<Shard>(std::move(params));
  const TimePoint now{};
  check(shard_->hello({}, kSession, now).has_value(), "hello");
  wire::OpenNamespace opening;
  opening.digest.fill(std::byte{1});
  const auto opened = shard_->open(kSession, opening, now);
  space_ = opened->id;
  era_ = opened->era;
  node_.node = NodeId{1};
  node_.incarnation = Incarnation{1};
  check(shard_->register_node(node_, now).has_value(), "register");
  const wire::Report nothing{node_.node, node_.incarnation, 0, true, {}};
  check(shard_->report(nothing, now).has_value(), "report");
  std::vector<SlotId> slots(kPromptBlocks);
  while (next_block_ < blocks_) {
    for (std::size_t i = 0; i < slots.size(); ++i) {
      slots[i].value = static_cast<std::uint32_t>(next_block_ + i);
    }
    publish(slots);
  }
  resident_bytes_ = resident_now() - before;
}

/// The next blocks, into these slots.
void FilledShard::publish(std::span<const SlotId> slots) {
  wire::Publish publish{node_.node, node_.incarnation, {}};
  for (const SlotId slot : slots) {
    const std::uint64_t number = next_block_++;
    publish.items.push_back(
        bench_entry(space_, era_, number, bench_key(number), bench_key(number - 1)));
    publish.items.back().slot = slot;
  }
  check(shard_->publish(publish, TimePoint{}).has_value(), "publish");
}

bool FilledShard::lookup_and_unpin(std::uint64_t prompt) {
  const LookupId id{next_lookup_++};
  wire::Lookup lookup{kSession, id, wire::LookupMode::pin, {}};
  lookup.sections.push_back({space_, wire::LookupRule::prefix, 0, 1, {}});
  std::vector<BlockKey>& keys = lookup.sections[0].keys;
  keys.reserve(kPromptBlocks);
  for (std::uint64_t i = 0; i < kPromptBlocks; ++i) {
    keys.push_back(bench_key(prompt * kPromptBlocks + i));
  }
  const auto found = shard_->lookup(lookup, TimePoint{});
  const bool all = found && found->sections[0].prefix_blocks == kPromptBlocks;
  const wire::Unpin unpin{kSession, {{id, NamespaceId{}, {}}}};
  return shard_->unpin(unpin, TimePoint{}).has_value() && all;
}

void FilledShard::replace_prompt() {
  const wire::NeedSlots need{node_.node, node_.incarnation, kBenchSlotBytes, kPromptBlocks, {}};
  const auto freed = shard_->need_slots(need, TimePoint{});
  check(freed && freed->items.size() == kPromptBlocks, "nothing was freed");
  const wire::Freed done{node_.node, node_.incarnation, freed->items};
  check(shard_->freed(done, TimePoint{}).has_value(), "freed");
  std::vector<SlotId> slots;
  for (const wire::SlotRef& at : freed->items) slots.push_back(at.slot);
  publish(slots);
}

}  // namespace membrain
