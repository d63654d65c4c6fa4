// How fast the catalog answers, and what a block costs in memory.
//
//   catalog_bench                          10^4 to 10^6 blocks
//   catalog_bench --benchmark_filter=...   as usual
//   catalog_bench --largest                10^7 blocks as well (1.3 GB)
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <random>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "protocol/messages.h"
#include "server/catalog.h"
#include "server/lru_leaf_first.h"
#include "server/shard.h"
#include "server/state_store.h"

namespace membrain {
namespace {

constexpr std::size_t kBatch = 512;
constexpr std::uint32_t kPromptBlocks = 32;
constexpr std::uint32_t kSlotBytes = 4096;

BlockKey key_of(std::uint64_t number) {
  std::uint64_t mixed = (number + 1) * 0x9e3779b97f4a7c15ull;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ull;
  return {mixed ^ (mixed >> 27), ~mixed * 0x94d049bb133111ebull};
}

/// A catalog of prompts of 32 blocks, as one node would have published them.
struct Filled {
  explicit Filled(std::uint64_t blocks) : catalog(records, policy, blocks, 1) {
    for (std::uint64_t number = 0; number < blocks; ++number) add(number);
  }
  static BlockName name(std::uint64_t number) { return {key_of(number), 0, Era{1}, 0}; }
  void add(std::uint64_t number) {
    const Ref entry = catalog.find_or_add(name(number));
    const auto depth = static_cast<std::uint32_t>(number % kPromptBlocks);
    catalog.entry(entry).depth = depth;
    if (depth > 0) catalog.link(entry, key_of(number - 1));
    Catalog::NewReplica made;
    made.slot = SlotId{static_cast<std::uint32_t>(number)};
    made.generation = Generation{number + 1};
    made.length = kSlotBytes;
    made.slot_bytes = kSlotBytes;
    catalog.add_replica(entry, made);
  }
  void evict() {
    const Ref victim = policy.victim(0, kSlotBytes);
    const Ref entry = catalog.replica(victim).entry;
    catalog.remove_replica(victim);
    catalog.settle(entry);
  }

  Records records;
  LruLeafFirst policy{records};
  Catalog catalog;
};

void report(benchmark::State& state, const Filled& filled, std::uint64_t blocks) {
  state.counters["bytes_per_block"] =
      static_cast<double>(filled.catalog.bytes()) / static_cast<double>(blocks);
}

/// Batches of 512 names, `hits` of 100 in the catalog, from random prompts.
void find_batch(benchmark::State& state) {
  const auto blocks = static_cast<std::uint64_t>(state.range(0));
  const auto hits = static_cast<std::uint64_t>(state.range(1));
  const Filled filled(blocks);
  std::mt19937_64 random(7);
  std::vector<std::vector<BlockName>> batches(64);
  std::vector<std::size_t> expected(batches.size(), 0);
  for (std::size_t i = 0; i < batches.size(); ++i) {
    while (batches[i].size() < kBatch) {
      const std::uint64_t first = random() % (blocks / kPromptBlocks) * kPromptBlocks;
      for (std::uint32_t depth = 0; depth < kPromptBlocks; ++depth) {
        const bool hit = random() % 100 < hits;
        expected[i] += hit ? 1 : 0;
        batches[i].push_back(Filled::name(first + depth + (hit ? 0 : blocks)));
      }
    }
  }
  std::vector<Ref> found(kBatch);
  std::size_t next = 0;
  for (auto _ : state) {
    filled.catalog.find_all(batches[next], found);
    benchmark::DoNotOptimize(found.data());
    next = (next + 1) % batches.size();
  }
  for (std::size_t i = 0; i < batches.size(); ++i) {
    filled.catalog.find_all(batches[i], found);
    std::size_t there = 0;
    for (const Ref ref : found) there += ref != kNoRef ? 1 : 0;
    check(there == expected[i], "a batch found another number of blocks");
  }
  state.counters["keys_per_second"] = benchmark::Counter(
      static_cast<double>(kBatch), benchmark::Counter::kIsIterationInvariantRate);
  report(state, filled, blocks);
}

/// A full catalog: one block goes, one comes.
void publish_and_evict(benchmark::State& state) {
  const auto blocks = static_cast<std::uint64_t>(state.range(0));
  Filled filled(blocks);
  std::uint64_t number = blocks;
  for (auto _ : state) {
    filled.evict();
    filled.add(number++);
  }
  // Ghosts are beginnings of prompts whose ends are still there.
  check(filled.catalog.counts().blocks == blocks, "the catalog lost or kept a block");
  state.SetItemsProcessed(state.iterations());
  report(state, filled, blocks);
}

/// What a client waits for, without the network: a Lookup that pins 512 blocks, and its Unpin.
void shard_lookup_and_unpin(benchmark::State& state) {
  const auto blocks = static_cast<std::uint64_t>(state.range(0));
  MemoryStateStore store;
  ShardParams params;
  params.epoch = store.begin_epoch().value();
  params.expected_blocks = blocks;
  Shard shard(params, store);
  const TimePoint now{};
  const SessionId session{1};
  check(shard.hello({}, session, now).has_value(), "hello");
  wire::OpenNamespace opening;
  opening.digest.fill(std::byte{1});
  const auto space = shard.open(session, opening, now);
  wire::RegisterNode node;
  node.node = NodeId{1};
  node.incarnation = Incarnation{1};
  check(shard.register_node(node, now).has_value(), "register");
  for (std::uint64_t first = 0; first < blocks; first += kBatch) {
    wire::Publish publish{node.node, node.incarnation, {}};
    for (std::uint64_t number = first; number < first + kBatch; ++number) {
      wire::SlotEntry& item = publish.items.emplace_back();
      item.meta.space = space->id;
      item.meta.era = space->era;
      item.meta.key = key_of(number);
      item.meta.depth = static_cast<std::uint32_t>(number - first);
      if (number > first) item.meta.parent = key_of(number - 1);
      item.slot = SlotId{static_cast<std::uint32_t>(number)};
      item.generation = Generation{number + 1};
      item.length = item.slot_bytes = kSlotBytes;
    }
    check(shard.publish(publish, now).has_value(), "publish");
  }
  std::mt19937_64 random(7);
  std::uint64_t id = 1;
  for (auto _ : state) {
    const std::uint64_t first = random() % (blocks / kBatch) * kBatch;
    wire::Lookup lookup{session, LookupId{id}, wire::LookupMode::pin, {}};
    lookup.sections.push_back({space->id, wire::LookupRule::prefix, 0, 1, {}});
    for (std::uint64_t i = 0; i < kBatch; ++i) {
      lookup.sections[0].keys.push_back(key_of(first + i));
    }
    const auto found = shard.lookup(lookup, now);
    check(found && found->sections[0].prefix_blocks == kBatch, "a lookup missed blocks");
    wire::Unpin unpin{session, {{LookupId{id++}, NamespaceId{}, {}}}};
    check(shard.unpin(unpin, now).has_value(), "unpin");
  }
  check(shard.pin_count() == 0, "pins were left");
  state.counters["keys_per_second"] = benchmark::Counter(
      static_cast<double>(kBatch), benchmark::Counter::kIsIterationInvariantRate);
}

void register_all(bool largest) {
  std::vector<std::int64_t> sizes{10'000, 100'000, 1'000'000};
  if (largest) sizes.push_back(10'000'000);
  const std::vector<std::int64_t> hits{100, 50, 0};
  benchmark::RegisterBenchmark("find_batch_512", find_batch)
      ->ArgNames({"blocks", "hits"})
      ->ArgsProduct({sizes, hits})
      ->UseRealTime();
  for (const std::int64_t size : sizes) {
    benchmark::RegisterBenchmark("publish_and_evict", publish_and_evict)
        ->ArgName("blocks")
        ->Arg(size)
        ->UseRealTime();
    benchmark::RegisterBenchmark("shard_lookup_and_unpin_512", shard_lookup_and_unpin)
        ->ArgName("blocks")
        ->Arg(size / static_cast<std::int64_t>(kBatch) * static_cast<std::int64_t>(kBatch))
        ->UseRealTime();
  }
}

}  // namespace
}  // namespace membrain

int main(int argc, char** argv) {
  membrain::set_log_level(membrain::LogLevel::error);
  bool largest = false;
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--largest") {
      largest = true;
    } else {
      argv[kept++] = argv[i];
    }
  }
  benchmark::Initialize(&kept, argv);
  if (benchmark::ReportUnrecognizedArguments(kept, argv)) return 1;
  membrain::register_all(largest);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
