// Paged caches: what pieces cost beside contiguous blocks.
//
//   layout_bench --benchmark_repetitions=5 --benchmark_report_aggregates_only=true
//
// Rows, all by the bytes of a piece:
//   gather, scatter         1 MiB of pieces that lie anywhere in 256 MiB, into a buffer and back
//   gather_naive, ...       the same by a loop of memcpy; memcpy/1048576: one run, the limit
//   fetch_layout/tcp        16 blocks of 160 planes by their ids, one call: 2,560 pieces
//   fetch_pieces/tcp        the same with a list of pieces for each block
//   fetch_whole/tcp         the same blocks, contiguous
//   fetch_.../mapped        the same from the arena of a node on this host, by `Client`; without
//                           hashing, and verified
//   posting                 from block ids to segments of messages, nothing moved: the counter
//                           posting_ns_per_piece; posting_pieces: from lists of pieces
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/gather.h"
#include "base/log.h"
#include "bench/layout_mapped_rows.h"
#include "bench/local_cluster.h"
#include "bench/page_memory.h"
#include "bench/paged_cache.h"
#include "cache/client/fetch_list.h"
#include "cache/memory/segments.h"

namespace membrain {
namespace {

constexpr std::size_t kPoolBytes = std::size_t{256} << 20;
constexpr std::size_t kBufferBytes = std::size_t{1} << 20;
constexpr std::uint64_t kFirst = 1000;

struct Run {
  std::byte* data;
  std::size_t size;
};

void count_bytes(benchmark::State& state, std::size_t bytes) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
}

/// Batches of pieces of 1 MiB together, that lie anywhere.
std::vector<std::vector<Run>> scattered(PageMemory& pool, std::size_t piece) {
  std::vector<std::size_t> order(pool.size() / piece);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937(1));
  std::vector<std::vector<Run>> batches(pool.size() / kBufferBytes);
  for (std::size_t i = 0; i < order.size(); ++i) {
    batches[i * piece / kBufferBytes].push_back({pool.data() + order[i] * piece, piece});
  }
  return batches;
}

template <class Move>
void move_pieces(benchmark::State& state, std::size_t piece, Move move) {
  PageMemory pool(kPoolBytes, std::byte{1});
  PageMemory buffer(kBufferBytes, std::byte{2});
  const std::vector<std::vector<Run>> batches = scattered(pool, piece);
  std::size_t next = 0;
  for (auto _ : state) {
    move(buffer.data(), std::span<const Run>(batches[next++ % batches.size()]));
    benchmark::ClobberMemory();
  }
  count_bytes(state, kBufferBytes);
}

void gather_naively(std::byte* to, std::span<const Run> runs) {
  for (const Run& run : runs) {
    std::memcpy(to, run.data, run.size);
    to += run.size;
  }
}

void scatter_naively(const std::byte* from, std::span<const Run> runs) {
  for (const Run& run : runs) {
    std::memcpy(run.data, from, run.size);
    from += run.size;
  }
}

enum class Way { layout, pieces, whole };

void fetch(benchmark::State& state, std::size_t piece, Way way) {
  InProcessClusterConfig config;
  config.transports = "tcp,self";
  InProcessCluster cluster(config);
  const std::size_t block_bytes = PagedCache::kPlanes * piece;
  if (!cluster.store(kFirst, PagedCache::kBlocks, block_bytes))
    return state.SkipWithError("nothing stored");
  const Match match = cluster.lookup(kFirst, PagedCache::kBlocks);
  PagedCache cache(piece);
  const std::vector<FetchItem> items = way == Way::whole ? cache.whole_items() : cache.items();
  const auto once = [&] {
    return way == Way::layout ? cluster.fetch(match, cache.list()) : cluster.fetch(match, items);
  };
  const auto wanted = [](std::uint32_t block, std::size_t at) {
    return InProcessCluster::content(kFirst + block, at);
  };
  if (!once() || (way != Way::whole && !cache.holds(wanted))) {
    return state.SkipWithError("wrong bytes");
  }
  for (auto _ : state) {
    if (!once()) return state.SkipWithError("a fetch failed");
  }
  count_bytes(state, PagedCache::kBlocks * block_bytes);
}

void post(benchmark::State& state, Way way) {
  const PagedCache cache(4096);
  const std::vector<FetchItem> items = cache.items();
  SegmentList segments;
  for (auto _ : state) {
    const FetchList list = way == Way::layout ? cache.list() : FetchList(items);
    segments.clear();
    for (std::size_t i = 0; i < list.size(); ++i) segments.add(list[i].into);
    benchmark::DoNotOptimize(segments.to_receive().data());
  }
  state.counters["posting_ns_per_piece"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * PagedCache::kPlanes * PagedCache::kBlocks / 1e9,
      benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void register_rows() {
  const auto add = [](const std::string& name, auto run) {
    benchmark::RegisterBenchmark(name.c_str(), run)
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond)
        ->MinTime(0.3);
  };
  using State = benchmark::State;
  const auto gather_runs = [](std::byte* to, std::span<const Run> runs) { gather(to, runs); };
  const auto scatter_runs = [](std::byte* to, std::span<const Run> runs) { scatter(runs, to); };
  for (const std::size_t piece : {256U, 1024U, 4096U, 16384U, 65536U}) {
    const std::string by = "/" + std::to_string(piece);
    add("gather" + by, [=](State& state) { move_pieces(state, piece, gather_runs); });
    add("gather_naive" + by, [=](State& state) { move_pieces(state, piece, gather_naively); });
    add("scatter" + by, [=](State& state) { move_pieces(state, piece, scatter_runs); });
    add("scatter_naive" + by, [=](State& state) { move_pieces(state, piece, scatter_naively); });
  }
  add("memcpy/1048576", [](State& state) { move_pieces(state, kBufferBytes, gather_naively); });
  for (const std::size_t piece : {256U, 1024U, 4096U, 16384U, 65536U}) {
    const std::string by = "/tcp/" + std::to_string(piece);
    add("fetch_layout" + by, [=](State& state) { fetch(state, piece, Way::layout); });
    add("fetch_pieces" + by, [=](State& state) { fetch(state, piece, Way::pieces); });
    add("fetch_whole" + by, [=](State& state) { fetch(state, piece, Way::whole); });
  }
  register_layout_mapped_rows();
  add("posting", [](State& state) { post(state, Way::layout); });
  add("posting_pieces", [](State& state) { post(state, Way::pieces); });
}

}  // namespace
}  // namespace membrain

int main(int argc, char** argv) {
  membrain::set_log_level(membrain::LogLevel::error);
  membrain::register_rows();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
