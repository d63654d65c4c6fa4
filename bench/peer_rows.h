// Rows of the comparison with Redis.
#pragma once

#include <benchmark/benchmark.h>

#include <cstddef>
#include <vector>

#include "bench/rivals.h"

namespace membrain {

inline constexpr std::size_t kKeysAtOnce = 512;

/// Batches of random names, all of them there.
[[nodiscard]] std::vector<std::vector<BlockHash>> present_batches();
void count_bytes(benchmark::State& state);
void count_keys(benchmark::State& state);

// Values of `bytes` each, 32 MiB an iteration.
void redis_get(benchmark::State& state, Rivals& rivals, std::size_t bytes);
void redis_mget(benchmark::State& state, Rivals& rivals, std::size_t bytes);
void redis_set(benchmark::State& state, Rivals& rivals, std::size_t bytes);
/// One prompt of all values, looked up before; its blocks fetched in turn.
void membrain_fetch(benchmark::State& state, Rivals& rivals, std::size_t bytes, Path path);
/// As Redis' GET, from the names: prompts of 32 MiB are looked up, fetched and released in turn.
void membrain_get(benchmark::State& state, Rivals& rivals, std::size_t bytes, Path path);
/// Blocks that nobody has stored; the node makes room by what nobody has used for longest.
void membrain_store(benchmark::State& state, Rivals& rivals, std::size_t bytes, Path path);
/// What the kernel carries: one socket, the same bytes, received where they shall lie.
void socket_read(benchmark::State& state, std::size_t bytes);

// 64 batches of 512 names an iteration, all of them present.
void redis_exists(benchmark::State& state, Rivals& rivals);
void membrain_contains(benchmark::State& state, Rivals& rivals);

}  // namespace membrain
