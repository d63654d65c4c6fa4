// Gather and scatter: many short runs of memory into one buffer, and back.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

#include "base/copy.h"

namespace membrain {

/// Runs of this size or more are scattered past the caches: nobody reads them soon, and a store
/// that misses would first fetch the line that it replaces.
inline constexpr std::size_t kScatterStreamBytes = 1024;

/// Asks for the beginning of a run; the processor finds the rest by itself.
inline void prefetch_head(const std::byte* data, std::size_t size) noexcept {
  constexpr std::size_t kLineBytes = 64;
  constexpr std::size_t kHeadBytes = 512;
  const std::size_t bytes = std::min(size, kHeadBytes);
  for (std::size_t at = 0; at < bytes; at += kLineBytes) __builtin_prefetch(data + at);
}

/// The concatenation of `runs` (of anything with `data` and `size`) to `to`, which lies in none of
/// them. The head of each run is asked for while the one before it is copied. What it wrote stays
/// in the caches, for whoever sends it.
template <class Run>
void gather(std::byte* to, std::span<const Run> runs) noexcept {
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (i + 1 < runs.size()) prefetch_head(runs[i + 1].data, runs[i + 1].size);
    if (runs[i].size == 0) continue;
    std::memcpy(to, runs[i].data, runs[i].size);
    to += runs[i].size;
  }
}

/// `from` to the concatenation of `runs`, which lie neither in it nor in each other.
template <class Run>
void scatter(std::span<const Run> runs, const std::byte* from) noexcept {
  bool streamed = false;
  for (const Run& run : runs) {
    if (run.size == 0) continue;
    if (run.size >= kScatterStreamBytes) {
      stream_run(run.data, {from, run.size});
      streamed = true;
    } else {
      std::memcpy(run.data, from, run.size);
    }
    from += run.size;
  }
  if (streamed) fence_streams();
}

}  // namespace membrain
