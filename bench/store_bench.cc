// What an engine sees: lookup, fetch and release end to end, fetch alone, and store.
//
//   store_bench --benchmark_repetitions=5 --benchmark_report_aggregates_only=true
//
// Rows: get, fetch and store, each /LANE/BYTES/bBATCH/cCLIENTS: blocks of BYTES, BATCH in one call,
// CLIENTS engine processes side by side. get is lookup + fetch + release, fetch the same with the
// lookup made before; both verify checksums, the default. LANE is tcp, or mapped: engines that read
// and write the node's memory themselves. Everything is a process of its own, forked before UCX is
// used: the server and the node, each engine. One iteration is a round of calls in every engine;
// bytes are those of all engines. p50_us and p99_us are of one call, in the last round, of the
// slowest engine.
#include <benchmark/benchmark.h>

#include <array>
#include <cstdint>
#include <string>

#include "base/log.h"
#include "bench/store_parties.h"

namespace membrain {
namespace {

using What = RoundOrder::What;

constexpr std::int64_t kRounds = 8;
/// More in one call takes more memory than a small machine has, and tells nothing new.
constexpr std::size_t kMostCallBytes = std::size_t{512} << 20;

void run_row(benchmark::State& state, const StoreBenchConfig& config, What what) {
  StoreParties parties(config);
  if (!parties.prepare()) return state.SkipWithError("the processes could not be prepared");
  const std::size_t calls = parties.calls_per_round();
  if (!parties.run(what, 2)) return state.SkipWithError("a warm-up failed");
  for (auto _ : state) {
    if (!parties.run(what, calls)) return state.SkipWithError("a call failed");
    if (what != What::store) continue;
    state.PauseTiming();
    if (!parties.run(What::clear, 1) || !parties.wait_for_room()) {
      return state.SkipWithError("no room for another round");
    }
    state.ResumeTiming();
  }
  const std::size_t bytes = calls * parties.bytes_per_call() * config.clients;
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
  state.counters["p50_us"] = parties.p50_us();
  state.counters["p99_us"] = parties.p99_us();
}

void register_row(const char* name, What what, const StoreBenchConfig& config) {
  const std::string full = std::string(name) + "/" + config.lane + "/" +
                           std::to_string(config.block_bytes) + "/b" +
                           std::to_string(config.batch) + "/c" + std::to_string(config.clients);
  benchmark::RegisterBenchmark(full.c_str(),
                               [=](benchmark::State& state) { run_row(state, config, what); })
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(kRounds);  // a search for their number would start all processes anew each time
}

void register_rows(bool caller_drives) {
  StoreBenchConfig config;
  config.caller_drives = caller_drives;
  for (const char* lane : {"tcp", "mapped"}) {
    config.lane = lane;
    for (std::size_t bytes = 4096; bytes <= (std::size_t{16} << 20); bytes *= 4) {
      for (const std::size_t batch : {1U, 16U, 128U}) {
        for (const std::size_t clients : {1U, 2U, 8U}) {
          config.block_bytes = bytes;
          config.batch = batch;
          config.clients = clients;
          if (bytes * batch * clients > kMostCallBytes) continue;
          register_row("get", What::get, config);
          register_row("fetch", What::fetch, config);
          register_row("store", What::store, config);
        }
      }
    }
  }
}

}  // namespace
}  // namespace membrain

int main(int argc, char** argv) {
  membrain::set_log_level(membrain::LogLevel::error);
  benchmark::AddCustomContext("membrain_build", MEMBRAIN_BENCH_BUILD);
  benchmark::Initialize(&argc, argv);
  // --own_threads: clients with threads of their own instead of Threads::caller
  const bool own_threads = argc == 2 && std::string(argv[1]) == "--own_threads";
  if (!own_threads && benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  membrain::register_rows(!own_threads);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
