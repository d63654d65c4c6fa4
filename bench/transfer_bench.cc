// Checked fetches against the raw UCX loop with the same settings, in one run.
//
//   transfer_bench --benchmark_repetitions=5 --benchmark_report_aggregates_only=true
//
// Rows: raw/LANE/BYTES, fetch/LANE/BYTES (the reader's hashing declined, like the raw loop, which
// hashes nothing) and fetch_verified/LANE/BYTES (hashing on: the default). One iteration moves a
// batch of 32 MiB, at least 8 and at most 512 blocks, four under way. Rows of one size follow each
// other, so that a machine whose speed drifts drifts for all of them.
#include <benchmark/benchmark.h>
#include <ucp/api/ucp.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "base/log.h"
#include "bench/local_cluster.h"
#include "bench/page_memory.h"
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

void raw(benchmark::State& state, const std::string& lane, std::size_t block_bytes) {
  RawTransferConfig config;
  config.transports = transports_of(lane);
  config.block_bytes = block_bytes;
  config.window = kWindow;
  config.blocks = batch_of(block_bytes);
  const std::unique_ptr<RawTransfer> transfer = RawTransfer::create(config).value();
  const std::size_t blocks = batch_of(block_bytes);
  if (!transfer->run(blocks) || transfer->lane() != lane)
    return state.SkipWithError("no such lane");
  for (auto _ : state) {
    if (!transfer->run(blocks)) return state.SkipWithError("the raw loop failed");
  }
  if (!transfer->intact()) return state.SkipWithError("wrong bytes");
  count_bytes(state, blocks * block_bytes);
}

/// Every byte of every block is what was stored.
bool intact(const PageMemory& memory, std::size_t block_bytes, std::uint64_t first) {
  for (std::size_t at = 0; at < memory.size(); ++at) {
    const std::uint64_t number = first + at / block_bytes;
    if (memory[at] != InProcessCluster::content(number, at % block_bytes)) return false;
  }
  return true;
}

void fetch(benchmark::State& state, const std::string& lane, std::size_t block_bytes, bool verify) {
  InProcessClusterConfig config;
  config.transports = transports_of(lane);
  config.capacity_bytes = std::size_t{256} << 20;
  config.verify_checksums = verify;
  config.window_blocks = kWindow;
  InProcessCluster cluster(config);
  const std::size_t blocks = batch_of(block_bytes);
  constexpr std::uint64_t kFirst = 1000;
  if (!cluster.store(kFirst, blocks, block_bytes)) return state.SkipWithError("nothing was stored");
  const Match match = cluster.lookup(kFirst, blocks);
  if (match.prefix_blocks() != blocks) return state.SkipWithError("not every block was found");
  PageMemory memory(blocks * block_bytes);
  std::vector<FetchItem> items(blocks);
  for (std::size_t i = 0; i < blocks; ++i) {
    items[i].block = static_cast<std::uint32_t>(i);
    items[i].into = {{memory.data() + i * block_bytes, block_bytes}};
  }
  if (!cluster.fetch(match, items) || cluster.lane() != lane ||
      !intact(memory, block_bytes, kFirst)) {
    return state.SkipWithError("wrong bytes, or another lane");
  }
  for (auto _ : state) {
    if (!cluster.fetch(match, items)) return state.SkipWithError("a fetch failed");
  }
  count_bytes(state, blocks * block_bytes);
}

void register_rows() {
  for (const std::string lane : {"tcp", "shm"}) {
    for (std::size_t bytes = 4096; bytes <= (std::size_t{16} << 20); bytes *= 4) {
      const std::string suffix = "/" + lane + "/" + std::to_string(bytes);
      const auto timed = [](benchmark::internal::Benchmark* row) {
        row->UseRealTime()->Unit(benchmark::kMillisecond)->MinTime(0.3);
      };
      timed(benchmark::RegisterBenchmark(
          ("raw" + suffix).c_str(), [=](benchmark::State& state) { raw(state, lane, bytes); }));
      timed(benchmark::RegisterBenchmark(("fetch" + suffix).c_str(), [=](benchmark::State& state) {
        fetch(state, lane, bytes, false);
      }));
      timed(benchmark::RegisterBenchmark(
          ("fetch_verified" + suffix).c_str(),
          [=](benchmark::State& state) { fetch(state, lane, bytes, true); }));
    }
  }
}

}  // namespace
}  // namespace membrain

int main(int argc, char** argv) {
  membrain::set_log_level(membrain::LogLevel::error);
  benchmark::AddCustomContext("ucx", ucp_get_version_string());
#ifdef NDEBUG
  benchmark::AddCustomContext("membrain_build", "optimised");
#else
  benchmark::AddCustomContext("membrain_build", "with assertions: not for figures");
#endif
  membrain::register_rows();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
