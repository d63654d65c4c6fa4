#include "bench/mapped_rows.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bench/mapped_host.h"
#include "bench/page_memory.h"

namespace membrain {
namespace {

constexpr std::size_t kBatchBytes = std::size_t{32} << 20;
constexpr std::size_t kViewBatch = 16;
constexpr std::size_t kStoredAtOnce = 32;

std::size_t batch_of(std::size_t block_bytes) {
  return std::clamp<std::size_t>(kBatchBytes / block_bytes, 8, 512);
}

std::byte content(std::size_t at) {
  return static_cast<std::byte>(at * 7 + (at >> 8) * 3 + (at >> 16));
}

BlockHash hash_of(std::uint64_t number) {
  return BlockHash::from(std::as_bytes(std::span(&number, 1))).value();
}

/// A client that maps a node's arena, and a batch of blocks that it has looked up.
class MappedBatch {
 public:
  MappedBatch(std::size_t block_bytes, std::size_t blocks, bool verify)
      : block_bytes_(block_bytes), memory_(block_bytes * blocks), host_(verify) {
    if (host_.client() == nullptr) return;
    space_ = host_.open_space();
    if (store(blocks)) look_up(blocks);
  }

  /// Fetches the batch; true if every byte of it came straight from the arena.
  bool fetch() {
    const Result<TransferReport> report = host_.client()->fetch(match_, items_);
    return all_mapped(report, items_.size(), memory_.size());
  }
  [[nodiscard]] Result<std::vector<View>> view() const {
    return host_.client()->fetch_view(match_, items_);
  }
  [[nodiscard]] bool ready() const {
    return match_.prefix_blocks() * block_bytes_ == memory_.size();
  }
  [[nodiscard]] bool intact() const {
    for (std::size_t at = 0; at < memory_.size(); ++at) {
      if (memory_[at] != content(at)) return false;
    }
    return true;
  }
  void forget() { std::fill(memory_.begin(), memory_.end(), std::byte{0}); }
  [[nodiscard]] PageMemory& memory() noexcept { return memory_; }

 private:
  bool store(std::size_t blocks) {
    for (std::size_t at = 0; at < memory_.size(); ++at) memory_[at] = content(at);
    for (std::size_t first = 0; first < blocks; first += kStoredAtOnce) {
      std::vector<StoreItem> items(std::min(kStoredAtOnce, blocks - first));
      for (std::size_t i = 0; i < items.size(); ++i) {
        items[i].hash = hash_of(first + i);
        items[i].depth = static_cast<std::uint32_t>(first + i);
        items[i].from = {{memory_.data() + (first + i) * block_bytes_, block_bytes_}};
      }
      const Result<TransferReport> report = host_.client()->store(space_, items);
      if (!report || report->ok_count() != items.size()) return false;
    }
    return true;
  }
  void look_up(std::size_t blocks) {
    std::vector<BlockHash> hashes;
    for (std::size_t i = 0; i < blocks; ++i) hashes.push_back(hash_of(i));
    match_ = std::move(host_.client()->lookup(space_, hashes).value());
    items_.resize(blocks);
    for (std::size_t i = 0; i < blocks; ++i) {
      items_[i].block = static_cast<std::uint32_t>(i);
      items_[i].into = {{memory_.data() + i * block_bytes_, block_bytes_}};
    }
  }

  const std::size_t block_bytes_;
  PageMemory memory_;
  MappedHost host_;
  OpenedNamespace space_;
  Match match_;
  std::vector<FetchItem> items_;
};

void count_bytes(benchmark::State& state, std::size_t bytes) {
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) *
                          static_cast<std::int64_t>(bytes));
}

void fetch_mapped(benchmark::State& state, std::size_t block_bytes, bool verify) {
  MappedBatch batch(block_bytes, batch_of(block_bytes), verify);
  batch.forget();
  if (!batch.ready() || !batch.fetch() || !batch.intact()) {
    return state.SkipWithError("wrong bytes, or not mapped");
  }
  for (auto _ : state) {
    if (!batch.fetch()) return state.SkipWithError("a fetch failed");
  }
  count_bytes(state, batch.memory().size());
}

void plain_copy(benchmark::State& state, std::size_t block_bytes) {
  MappedBatch batch(block_bytes, batch_of(block_bytes), false);
  if (!batch.ready()) return state.SkipWithError("nothing was stored");
  const Result<std::vector<View>> views = batch.view();
  if (!views) return state.SkipWithError("not mapped");
  const auto copy = [&] {
    std::byte* to = batch.memory().data();
    for (const View& view : *views) {
      std::memcpy(to, view.bytes().data(), view.bytes().size());
      to += view.bytes().size();
    }
    benchmark::ClobberMemory();
  };
  batch.forget();
  copy();
  if (!batch.intact()) return state.SkipWithError("wrong bytes");
  for (auto _ : state) copy();
  count_bytes(state, batch.memory().size());
}

/// Microseconds at a share of sorted samples.
double at_share(const std::vector<double>& sorted, double share) {
  const auto last = static_cast<double>(sorted.size() - 1);
  return sorted[static_cast<std::size_t>(last * share)];
}

void fetch_view(benchmark::State& state) {
  MappedBatch batch(16'384, kViewBatch, false);
  if (!batch.ready()) return state.SkipWithError("nothing was stored");
  std::vector<double> samples;
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    const Result<std::vector<View>> views = batch.view();
    bool right = views.has_value();
    if (right) {
      for (const View& view : *views) right = right && view.finish().has_value();
    }
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    if (!right) return state.SkipWithError("a view failed");
    samples.push_back(took.count());
  }
  std::sort(samples.begin(), samples.end());
  state.counters["p50_us"] = at_share(samples, 0.50);
  state.counters["p99_us"] = at_share(samples, 0.99);
}

}  // namespace

void register_mapped_rows() {
  const auto timed = [](benchmark::internal::Benchmark* row) {
    row->UseRealTime()->Unit(benchmark::kMillisecond)->MinTime(0.3);
  };
  for (std::size_t bytes = 4096; bytes <= (std::size_t{16} << 20); bytes *= 4) {
    const std::string suffix = "/" + std::to_string(bytes);
    const auto row = [&](const std::string& name, auto body) {
      timed(benchmark::RegisterBenchmark((name + suffix).c_str(), body));
    };
    row("memcpy", [bytes](benchmark::State& state) { plain_copy(state, bytes); });
    row("fetch_mapped", [bytes](benchmark::State& state) { fetch_mapped(state, bytes, false); });
    row("fetch_mapped_verified",
        [bytes](benchmark::State& state) { fetch_mapped(state, bytes, true); });
  }
  benchmark::RegisterBenchmark("fetch_view/b16", fetch_view)
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond)
      ->MinTime(0.2);
}

}  // namespace membrain
