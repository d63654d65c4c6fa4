// Checked fetches against the raw UCX loop with the same settings, in one run.
//
//   transfer_bench --benchmark_repetitions=5 --benchmark_report_aggregates_only=true
//
// Rows: raw/LANE/BYTES, fetch/LANE/BYTES (the reader's hashing declined, like the raw loop, which
// hashes nothing) and fetch_verified/LANE/BYTES (hashing on: the default). One iteration moves a
// batch of 32 MiB, at least 8 and at most 512 blocks, four under way. Rows of one size follow each
// other, so that a machine whose speed drifts drifts for all of them.
// What is read from a mapped arena is told in mapped_rows.h.
//
// With /b16 one iteration is one call for 16 blocks, one call at a time (the raw loop answers with
// a message a block, which over TCP is faster than one for all). roundtrip/LANE/BYTES is one call
// for one block by a client whose loop the caller turns, and raw_pingpong the raw loop with one
// block under way. raw_get_default/LANE/BYTES is UCX's one-sided read with UCX's own settings.
//
//   transfer_bench --soak=600
//
// runs no benchmark, but the same work for so many seconds: see soak.h.
#include <benchmark/benchmark.h>
#include <ucp/api/ucp.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "bench/local_cluster.h"
#include "bench/mapped_rows.h"
#include "bench/page_memory.h"
#include "bench/raw_get.h"
#include "bench/soak.h"
#include "bench/transfer_raw.h"

namespace membrain {
namespace {

constexpr std::size_t kWindow = 4;
constexpr std::size_t kBatchBytes = std::size_t{32} << 20;

std::string transports_of(const std::string& lane) {
  return lane == "tcp" ? "tcp,self" : std::string();
}

std::size_t batch_of(std::size_t block_bytes) {
  return std::clamp<std::size_t>(kBatchBytes / block_bytes, 8, 512);
}

void count_bytes(benchmark::State& state, std::size_t bytes) {
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) *
                          static_cast<std::int64_t>(bytes));
}

struct RawRow {
  std::string lane;
  std::size_t block_bytes = 0;
  std::size_t blocks = 0;  ///< of one iteration
  std::size_t window = kWindow;
  std::size_t batch = 1;
};

void raw(benchmark::State& state, const RawRow& row) {
  RawTransferConfig config;
  config.transports = transports_of(row.lane);
  config.block_bytes = row.block_bytes;
  config.window = row.window;
  config.batch = row.batch;
  config.blocks = row.blocks;
  const std::unique_ptr<RawTransfer> transfer = RawTransfer::create(config).value();
  if (!transfer->run(row.blocks) || transfer->lane() != row.lane)
    return state.SkipWithError("no such lane");
  for (auto _ : state) {
    if (!transfer->run(row.blocks)) return state.SkipWithError("the raw loop failed");
  }
  if (!transfer->intact()) return state.SkipWithError("wrong bytes");
  count_bytes(state, row.blocks * row.block_bytes);
}

/// One-sided reads with UCX's own settings: forked by main, before anything of UCX.
std::unique_ptr<RawGet> default_get;

void get_default(benchmark::State& state) {
  const RawGetConfig as_made;
  if (!default_get->run(as_made.blocks)) return state.SkipWithError("raw reads");
  for (auto _ : state) {
    if (!default_get->run(as_made.blocks)) return state.SkipWithError("raw reads");
  }
  count_bytes(state, as_made.blocks * as_made.block_bytes);
}

/// Every byte of every block is what was stored.
bool intact(const PageMemory& memory, std::size_t block_bytes, std::uint64_t first) {
  for (std::size_t at = 0; at < memory.size(); ++at) {
    const std::uint64_t number = first + at / block_bytes;
    if (memory[at] != InProcessCluster::content(number, at % block_bytes)) return false;
  }
  return true;
}

struct FetchRow {
  std::string lane;
  std::size_t block_bytes = 0;
  std::size_t blocks = 0;  ///< of one call, which is one iteration
  bool verify = true;
  bool caller_drives = false;
};

void fetch(benchmark::State& state, const FetchRow& row) {
  InProcessClusterConfig config;
  config.transports = transports_of(row.lane);
  config.capacity_bytes = std::size_t{256} << 20;
  config.verify_checksums = row.verify;
  config.window_blocks = kWindow;
  config.caller_drives = row.caller_drives;
  InProcessCluster cluster(config);
  constexpr std::uint64_t kFirst = 1000;
  if (!cluster.store(kFirst, row.blocks, row.block_bytes)) {
    return state.SkipWithError("nothing was stored");
  }
  const Match match = cluster.lookup(kFirst, row.blocks);
  if (match.prefix_blocks() != row.blocks) return state.SkipWithError("not every block was found");
  PageMemory memory(row.blocks * row.block_bytes);
  std::vector<FetchItem> items(row.blocks);
  for (std::size_t i = 0; i < row.blocks; ++i) {
    items[i].block = static_cast<std::uint32_t>(i);
    items[i].into = {{memory.data() + i * row.block_bytes, row.block_bytes}};
  }
  if (!cluster.fetch(match, items) || cluster.lane() != row.lane ||
      !intact(memory, row.block_bytes, kFirst)) {
    return state.SkipWithError("wrong bytes, or another lane");
  }
  for (auto _ : state) {
    if (!cluster.fetch(match, items)) return state.SkipWithError("a fetch failed");
  }
  count_bytes(state, row.blocks * row.block_bytes);
}

benchmark::internal::Benchmark* timed(benchmark::internal::Benchmark* row) {
  return row->UseRealTime()->Unit(benchmark::kMillisecond)->MinTime(0.3);
}

void register_raw(const std::string& name, const RawRow& row) {
  timed(benchmark::RegisterBenchmark(("raw" + name).c_str(),
                                     [row](benchmark::State& state) { raw(state, row); }));
}

void register_fetch(const std::string& name, const FetchRow& row) {
  timed(benchmark::RegisterBenchmark(name.c_str(),
                                     [row](benchmark::State& state) { fetch(state, row); }));
}

void register_rows() {
  for (const std::string lane : {"tcp", "shm"}) {
    for (std::size_t bytes = 4096; bytes <= (std::size_t{16} << 20); bytes *= 4) {
      const std::string suffix = "/" + lane + "/" + std::to_string(bytes);
      const std::size_t blocks = batch_of(bytes);
      register_raw(suffix, {lane, bytes, blocks});
      register_fetch("fetch" + suffix, {lane, bytes, blocks, false});
      register_fetch("fetch_verified" + suffix, {lane, bytes, blocks, true});
    }
  }
  constexpr std::size_t kSmall = 65536;
  register_raw("/tcp/65536/b16", {"tcp", kSmall, 16, 1, 16});
  register_fetch("fetch/tcp/65536/b16", {"tcp", kSmall, 16, false});
  register_fetch("fetch_verified/tcp/65536/b16", {"tcp", kSmall, 16, true});
  for (const std::size_t bytes : {4096U, 65536U, 1048576U}) {
    const std::string suffix = "/tcp/" + std::to_string(bytes);
    register_raw("_pingpong" + suffix, {"tcp", bytes, 1, 1});
    register_fetch("roundtrip" + suffix, {"tcp", bytes, 1, true, true});
  }
  timed(benchmark::RegisterBenchmark("raw_get_default/tcp/1048576", &get_default));
}

/// Seconds of "--soak=SECONDS"; 0 if it is not asked for.
long soak_seconds(int argc, char** argv) {
  constexpr std::string_view kFlag = "--soak=";
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with(kFlag)) return std::atol(argument.substr(kFlag.size()).data());
  }
  return 0;
}

}  // namespace
}  // namespace membrain

int main(int argc, char** argv) {
  membrain::set_log_level(membrain::LogLevel::error);
  if (const long seconds = membrain::soak_seconds(argc, argv); seconds > 0) {
    membrain::SoakConfig config;
    config.length = std::chrono::seconds(seconds);
    return membrain::soak(config) ? 0 : 1;
  }
  membrain::default_get = membrain::RawGet::fork({});
  benchmark::AddCustomContext("ucx", ucp_get_version_string());
  benchmark::AddCustomContext("membrain_build", MEMBRAIN_BENCH_BUILD);
  membrain::register_rows();
  membrain::register_mapped_rows();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  membrain::default_get.reset();
  return 0;
}
