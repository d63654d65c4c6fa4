// How fast the catalog and the server answer, what that costs the server, and what an entry costs
// in memory.
//
//   metadata_bench --benchmark_repetitions=5 --benchmark_report_aggregates_only=true
//
// In process, a shard of ENTRIES blocks in prompts of 512:
//   find_batch/ENTRIES    512 names a batch, all there, in runs of 32 from random prompts
//   find_random/ENTRIES   the same, every name from another place
//   find_absent/ENTRIES   none there
//   shard_lookup/ENTRIES  a lookup that pins a prompt, and its unpin; cpu_ns_per_key
//   shard_replace/ENTRIES 512 blocks go, 512 come
// Over UCX on TCP loopback, a server of 10^6 blocks on a thread of its own, real clients:
//   lookup_512/tcp        one at a time, each then released; p50_us, p99_us. The client's work is
//                         done on the caller's thread; lookup_512_own/tcp: on threads of its own
//   lookup_pipelined/tcp  16 under way; keys_per_server_cpu_second
//   lookup_clients/C      C clients with 64 under way in all; cpu_ns_per_key of the server
//   contains_512/tcp      existence alone (probe), pipelined, as one client sees it
// Of a server that has just begun to lead:
//   rebuild/ENTRIES       four nodes report all of their blocks, while a client looks prompts up;
//                         lookups, lookup_p50_us, lookup_p99_us
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "bench/filled_server.h"
#include "bench/filled_shard.h"
#include "bench/lookup_load.h"

namespace membrain {
namespace {

constexpr std::size_t kBatch = 512;
constexpr std::size_t kBatches = 64;
constexpr std::uint64_t kServerBlocks = 1'000'000;
constexpr std::size_t kUnderWay = 64;

/// What is filled once and then shared by rows.
struct Stage {
  FilledShard& shard(std::uint64_t blocks) {
    std::unique_ptr<FilledShard>& made = shards[blocks];
    if (!made) made = std::make_unique<FilledShard>(blocks);
    return *made;
  }
  FilledServer& server() {
    if (!filled) {
      filled = std::make_unique<FilledServer>(UcxContext::create({}).value(), kServerBlocks);
      filled->fill();
    }
    return *filled;
  }
  std::map<std::uint64_t, std::unique_ptr<FilledShard>> shards;
  std::unique_ptr<FilledServer> filled;
};

double seconds(Duration time) {
  return std::chrono::duration<double>(time).count();
}

double thread_cpu_seconds() {
  ::timespec taken{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &taken);
  return static_cast<double>(taken.tv_sec) + 1e-9 * static_cast<double>(taken.tv_nsec);
}

// ---- in process

/// Batches of names: `run` of them from one place; beyond the last block if they are to be absent.
std::vector<std::vector<BlockName>> batches_of(const FilledShard& filled, std::uint64_t run,
                                               bool present) {
  const std::uint64_t blocks = filled.prompts() * kPromptBlocks;
  std::mt19937_64 random(7);
  std::vector<std::vector<BlockName>> batches(kBatches);
  for (std::vector<BlockName>& batch : batches) {
    while (batch.size() < kBatch) {
      const std::uint64_t first = random() % (blocks / run) * run + (present ? 0 : blocks);
      for (std::uint64_t i = 0; i < run; ++i) {
        batch.push_back({bench_key(first + i), filled.space(), Era{1}, 0});
      }
    }
  }
  return batches;
}

void find(benchmark::State& state, Stage& stage, std::uint64_t entries, std::uint64_t run,
          bool present) {
  const FilledShard& filled = stage.shard(entries);
  const Catalog& catalog = filled.shard().catalog();
  const auto batches = batches_of(filled, run, present);
  std::vector<Ref> found(kBatch);
  std::size_t next = 0;
  for (auto _ : state) {
    catalog.find_all(batches[next], found);
    benchmark::DoNotOptimize(found.data());
    next = (next + 1) % kBatches;
  }
  for (const std::vector<BlockName>& batch : batches) {
    catalog.find_all(batch, found);
    const auto there =
        kBatch - static_cast<std::size_t>(std::count(found.begin(), found.end(), kNoRef));
    check(there == (present ? kBatch : 0), "a batch found another number of blocks");
  }
  const auto blocks = static_cast<double>(catalog.counts().blocks);
  state.counters["keys_per_second"] = benchmark::Counter(
      static_cast<double>(kBatch), benchmark::Counter::kIsIterationInvariantRate);
  state.counters["bytes_per_entry"] = static_cast<double>(catalog.bytes()) / blocks;
  if (entries >= 1'000'000) {  // below, it is the allocator that is measured
    state.counters["resident_bytes_per_entry"] =
        static_cast<double>(filled.resident_bytes()) / blocks;
  }
}

void shard_lookup(benchmark::State& state, Stage& stage, std::uint64_t entries) {
  FilledShard& filled = stage.shard(entries);
  std::mt19937_64 random(7);
  const double before = thread_cpu_seconds();
  for (auto _ : state) {
    if (!filled.lookup_and_unpin(random() % filled.prompts())) {
      return state.SkipWithError("a lookup missed blocks");
    }
  }
  const double keys = static_cast<double>(state.iterations()) * kPromptBlocks;
  check(filled.shard().pin_count() == 0, "pins were left");
  state.counters["cpu_ns_per_key"] = (thread_cpu_seconds() - before) * 1e9 / keys;
  state.SetItemsProcessed(static_cast<std::int64_t>(keys));
}

void shard_replace(benchmark::State& state, std::uint64_t entries) {
  FilledShard filled(entries);
  for (auto _ : state) filled.replace_prompt();
  // Ghosts are beginnings of prompts whose ends are still there.
  check(filled.shard().catalog().counts().blocks == filled.prompts() * kPromptBlocks,
        "the catalog lost or kept a block");
  state.SetItemsProcessed(state.iterations() * kPromptBlocks);
}

// ---- over UCX

double percentile(std::vector<double>& times, double which) {
  const auto at = static_cast<std::size_t>(which * static_cast<double>(times.size() - 1));
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(at), times.end());
  return times[at];
}

void lookup_alone(benchmark::State& state, Stage& stage, ClientConfig::Threads threads) {
  LookupLoad load(stage.server(), threads, 7);
  std::vector<double> times;
  for (int warm_up = 0; warm_up < 100; ++warm_up) {
    load.begin(LookupOptions::Mode::pin);
    load.take_oldest();
  }
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    load.begin(LookupOptions::Mode::pin);
    if (load.take_oldest() != kPromptBlocks) return state.SkipWithError("a block was missed");
    times.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  state.counters["p50_us"] = percentile(times, 0.5) * 1e6;
  state.counters["p99_us"] = percentile(times, 0.99) * 1e6;
}

/// One iteration takes 64 answers; `clients` share 64 lookups under way.
void lookup_many(benchmark::State& state, Stage& stage, std::size_t clients, std::size_t under_way,
                 LookupOptions::Mode mode) {
  FilledServer& server = stage.server();
  std::vector<std::unique_ptr<LookupLoad>> loads;
  for (std::size_t i = 0; i < clients; ++i) {
    loads.push_back(std::make_unique<LookupLoad>(server, ClientConfig::Threads::caller, i + 1));
  }
  bool all_found = true;
  const auto take = [&](std::size_t wanted) {
    std::size_t taken = 0;
    while (taken < wanted) {
      for (const std::unique_ptr<LookupLoad>& load : loads) {
        while (load->under_way() < under_way / clients) load->begin(mode);
        load->poll();
        while (load->oldest_done()) {
          all_found = all_found && load->take_oldest() == kPromptBlocks;
          ++taken;
        }
      }
    }
    return taken;
  };
  take(4 * kUnderWay);
  std::size_t taken = 0;
  const Duration before = server.cpu();
  for (auto _ : state) taken += take(kUnderWay);
  const double cpu = seconds(server.cpu() - before);
  if (!all_found) state.SkipWithError("a block was missed");
  const double keys = static_cast<double>(taken) * kPromptBlocks;
  state.counters["cpu_ns_per_key"] = cpu * 1e9 / keys;
  state.counters["keys_per_server_cpu_second"] = keys / cpu;
  state.counters["keys_per_second"] = benchmark::Counter(keys, benchmark::Counter::kIsRate);
}

/// What has been reported is found, the rest of a prompt missed.
void rebuild(benchmark::State& state, std::uint64_t entries) {
  std::vector<double> times;
  for (auto _ : state) {
    FilledServer server(UcxContext::create({}).value(), entries);
    LookupLoad load(server, ClientConfig::Threads::caller, 7);
    auto asked = std::chrono::steady_clock::now();
    const auto began = asked;
    load.begin(LookupOptions::Mode::pin);
    server.fill([&] {
      load.poll();
      if (!load.oldest_done()) return;
      load.take_oldest();
      const auto now = std::chrono::steady_clock::now();
      times.push_back(std::chrono::duration<double>(now - asked).count());
      asked = now;
      load.begin(LookupOptions::Mode::pin);
    });
    state.SetIterationTime(seconds(std::chrono::steady_clock::now() - began));
    load.take_oldest();
    load.begin(LookupOptions::Mode::pin);
    check(load.take_oldest() == kPromptBlocks, "a block that was reported is missed");
  }
  state.counters["lookups"] = static_cast<double>(times.size());
  state.counters["lookup_p50_us"] = percentile(times, 0.5) * 1e6;
  state.counters["lookup_p99_us"] = percentile(times, 0.99) * 1e6;
}

// ---- the table

template <class Row>
void add(const std::string& name, Row row) {
  benchmark::RegisterBenchmark(name.c_str(), row)->UseRealTime()->MinTime(0.4);
}

void register_rows(Stage& stage) {
  for (std::uint64_t entries = 10'000; entries <= 10'000'000; entries *= 10) {
    std::string suffix("/");
    suffix += std::to_string(entries);
    add("find_batch" + suffix,
        [&stage, entries](auto& state) { find(state, stage, entries, 32, true); });
    add("find_random" + suffix,
        [&stage, entries](auto& state) { find(state, stage, entries, 1, true); });
    add("find_absent" + suffix,
        [&stage, entries](auto& state) { find(state, stage, entries, 1, false); });
    add("shard_lookup" + suffix,
        [&stage, entries](auto& state) { shard_lookup(state, stage, entries); });
    if (entries <= 1'000'000) {
      add("shard_replace" + suffix, [entries](auto& state) { shard_replace(state, entries); });
    }
  }
  using Threads = ClientConfig::Threads;
  using Mode = LookupOptions::Mode;
  add("lookup_512/tcp", [&stage](auto& state) { lookup_alone(state, stage, Threads::caller); });
  add("lookup_512_own/tcp", [&stage](auto& state) { lookup_alone(state, stage, Threads::own); });
  add("lookup_pipelined/tcp",
      [&stage](auto& state) { lookup_many(state, stage, 1, 16, Mode::pin); });
  for (std::size_t clients = 1; clients <= kUnderWay; clients *= 4) {
    std::string name("lookup_clients/");
    name += std::to_string(clients);
    add(name, [&stage, clients](auto& state) {
      lookup_many(state, stage, clients, kUnderWay, Mode::pin);
    });
  }
  for (std::uint64_t entries = 1'000'000; entries <= 10'000'000; entries *= 10) {
    const std::string name = "rebuild/" + std::to_string(entries);
    benchmark::RegisterBenchmark(name.c_str(), [entries](auto& state) { rebuild(state, entries); })
        ->UseManualTime()
        ->Iterations(1)
        ->Unit(benchmark::kMillisecond);
  }
  add("contains_512/tcp", [&stage](auto& state) { lookup_many(state, stage, 1, 16, Mode::probe); });
}

}  // namespace
}  // namespace membrain

int main(int argc, char** argv) {
  ::setenv("UCX_TLS", "tcp,self", 1);  // clients would choose shared memory on one host
  membrain::set_log_level(membrain::LogLevel::error);
  benchmark::AddCustomContext("membrain_build", MEMBRAIN_BENCH_BUILD);
  membrain::Stage stage;
  membrain::register_rows(stage);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
