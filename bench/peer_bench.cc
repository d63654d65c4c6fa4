// Membrain and Redis at the same work, in one run: values of some KiB to MiB fetched and stored,
// and names asked for in batches.
//
//   peer_bench --benchmark_repetitions=5 --benchmark_enable_random_interleaving=true
//
// Each side has its server in processes of its own, talks TCP over loopback (rows "mapped": copies
// from the memory of the node, which lies on this host) and has one client
// thread in this process. Values are distinct and make up more memory than the caches hold. A value
// counts as fetched when it lies whole in the memory of the client's process: for Redis in a reply
// object of hiredis, for Membrain in the destination, with its checksum verified. Names are asked
// for in batches of 512, all of a million present ones; there Membrain's server is a loop on a
// thread of this process. Rows "socket" are what the kernel itself carries over one connection.
#include <benchmark/benchmark.h>
#include <hiredis/hiredis.h>
#include <ucp/api/ucp.h>

#include <cstdlib>
#include <random>
#include <string>

#include "base/log.h"
#include "bench/filled_shard.h"
#include "bench/peer_rows.h"

namespace membrain {

namespace {

constexpr std::size_t kKeyBatches = 64;

template <class Body>
void add(const std::string& name, Body body) {
  benchmark::RegisterBenchmark(name.c_str(), std::move(body))
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond)
      ->MinTime(0.3);
}

using RedisRow = void (*)(benchmark::State& state, Rivals& rivals, std::size_t bytes);
using MembrainRow = void (*)(benchmark::State& state, Rivals& rivals, std::size_t bytes, Path path);

constexpr std::pair<const char*, RedisRow> kRedisRows[] = {
    {"redis_get", redis_get}, {"redis_mget", redis_mget}, {"redis_set", redis_set}};
constexpr std::pair<const char*, MembrainRow> kMembrainRows[] = {
    {"membrain_fetch", membrain_fetch},
    {"membrain_get", membrain_get},
    {"membrain_store", membrain_store}};
constexpr std::pair<const char*, Path> kPaths[] = {{"/tcp", Path::tcp}, {"/mapped", Path::mapped}};

void register_rows(Rivals& rivals) {
  for (const std::size_t kib : {64U, 1024U, 2048U}) {
    const std::size_t bytes = kib << 10;
    const std::string size = std::string("/").append(std::to_string(bytes));
    for (const auto& [name, row] : kRedisRows) {
      add(name + size,
          [&rivals, row = row, bytes](benchmark::State& state) { row(state, rivals, bytes); });
    }
    for (const auto& [name, row] : kMembrainRows) {
      for (const auto& [lane, path] : kPaths) {
        add(std::string(name).append(lane).append(size),
            [&rivals, row = row, bytes, path = path](benchmark::State& state) {
              row(state, rivals, bytes, path);
            });
      }
    }
    add("socket" + size, [bytes](benchmark::State& state) { socket_read(state, bytes); });
  }
  add("redis_exists/512", [&rivals](benchmark::State& state) { redis_exists(state, rivals); });
  add("membrain_contains/512",
      [&rivals](benchmark::State& state) { membrain_contains(state, rivals); });
}

void describe() {
  const std::string hiredis = std::to_string(HIREDIS_MAJOR) + "." + std::to_string(HIREDIS_MINOR);
  benchmark::AddCustomContext("redis", RedisProcess::version());
  benchmark::AddCustomContext("redis_command", RedisProcess::command_line("PORT"));
  benchmark::AddCustomContext("redis_client",
                              "hiredis " + hiredis +
                                  ", 4 MiB of values under way (2 to 32 commands), MGET "
                                  "of up to 4 values and EXISTS of 512 names two at a time");
  benchmark::AddCustomContext("ucx", ucp_get_version_string());
  benchmark::AddCustomContext("membrain_build", MEMBRAIN_BENCH_BUILD);
}

}  // namespace

std::vector<std::vector<BlockHash>> present_batches() {
  std::mt19937_64 random(7);
  std::vector<std::vector<BlockHash>> batches(kKeyBatches);
  for (std::vector<BlockHash>& batch : batches) {
    while (batch.size() < kKeysAtOnce) {
      batch.push_back(bench_hash(random() % (kPresentKeys / kPromptBlocks * kPromptBlocks)));
    }
  }
  return batches;
}

void count_keys(benchmark::State& state) {
  state.SetItemsProcessed(state.iterations() *
                          static_cast<std::int64_t>(kKeyBatches * kKeysAtOnce));
}

void count_bytes(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kBatchBytes));
}

}  // namespace membrain

int main(int argc, char** argv) {
  membrain::set_log_level(membrain::LogLevel::error);
  ::setenv("UCX_TLS", "tcp,self", 1);  // of the processes that it starts, too
  membrain::Rivals rivals;
  membrain::describe();
  membrain::register_rows(rivals);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
