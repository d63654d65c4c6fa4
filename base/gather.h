// Gather and scatter: many short runs of memory into one buffer, and back.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

#include "base/copy.h"

namespace membrain {

/// Asks for the bytes of a list of runs, ahead of whoever copies them: the processor does so by
/// itself only within a run, and not across a page. They come as far as the second cache: the
/// first has too few places for what is under way.
///
/// Threads  One.
template <class Run>
class RunsAhead {
 public:
  /// Begins with the first `ahead` bytes.
  RunsAhead(std::span<const Run> runs, std::size_t ahead) noexcept : runs_(runs) { ask(ahead); }

  /// For about so many bytes more.
  void ask(std::size_t bytes) noexcept {
    constexpr std::size_t kLineBytes = 64;
    while (bytes != 0 && next_ < runs_.size()) {
      const Run& run = runs_[next_];
      const std::size_t size = std::min(bytes, run.size - at_);
      for (std::size_t i = 0; i < size; i += kLineBytes)
        __builtin_prefetch(run.data + at_ + i, 0, 2);
      bytes -= size;
      at_ += size;
      if (at_ < run.size) return;
      at_ = 0;
      ++next_;
    }
  }

 private:
  std::span<const Run> runs_;
  std::size_t next_ = 0;
  std::size_t at_ = 0;  ///< bytes of the next run that were asked for
};

/// The concatenation of `runs` (of anything with `data` and `size`) to `to`, which lies in none of
/// them. What it wrote stays in the caches, for whoever sends it.
template <class Run>
void gather(std::byte* to, std::span<const Run> runs) noexcept {
  constexpr std::size_t kAheadBytes = 16 * 1024;  // by layout_bench: docs/adr/0018
  constexpr std::size_t kStepBytes = 512;
  RunsAhead<Run> ahead(runs, kAheadBytes);
  for (const Run& run : runs) {
    for (std::size_t at = 0; at < run.size;) {
      const std::size_t step = std::min(kStepBytes, run.size - at);
      ahead.ask(step);
      std::memcpy(to, run.data + at, step);
      to += step;
      at += step;
    }
  }
}

/// `from` to the concatenation of `runs`, which lie neither in it nor in each other, past the
/// caches: nobody reads them soon.
template <class Run>
void scatter(std::span<const Run> runs, const std::byte* from) noexcept {
  for (const Run& run : runs) {
    copy_run(run.data, {from, run.size}, CopyWay::streamed);
    from += run.size;
  }
  fence_streams();
}

}  // namespace membrain
