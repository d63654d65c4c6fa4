#include "bench/layout_mapped_rows.h"

#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/mapped_host.h"
#include "bench/paged_cache.h"

namespace membrain {
namespace {

enum class Way { layout, pieces, whole };

std::byte content(std::uint32_t block, std::size_t at) {
  return static_cast<std::byte>(block * 31 + at * 7 + (at >> 8) * 3 + (at >> 16));
}

/// A client that maps a node's arena, and the blocks of a paged cache.
class MappedCache {
 public:
  MappedCache(std::size_t piece, bool verify) : cache_(piece), host_(verify) {
    if (host_.client() == nullptr) return;
    if (!store()) return;
    items_ = cache_.items();
    whole_ = cache_.whole_items();
  }

  /// True if every byte came straight from the arena.
  bool fetch(Way way) {
    const Result<TransferReport> report =
        way == Way::layout ? host_.client()->fetch(match_, cache_.layout, cache_.wanted())
                           : host_.client()->fetch(match_, way == Way::pieces ? items_ : whole_);
    return all_mapped(report, PagedCache::kBlocks, bytes());
  }
  [[nodiscard]] bool ready() const { return match_.prefix_blocks() == PagedCache::kBlocks; }
  [[nodiscard]] bool intact() const { return cache_.holds(content); }
  void forget() { std::fill(cache_.memory.begin(), cache_.memory.end(), std::byte{0}); }
  [[nodiscard]] std::uint64_t bytes() const {
    return std::uint64_t{cache_.layout.block_bytes()} * PagedCache::kBlocks;
  }

 private:
  bool store() {
    for (std::uint32_t i = 0; i < PagedCache::kBlocks; ++i) {
      std::size_t at = 0;
      cache_.place(i).for_each_piece([&](std::byte* bytes, std::size_t size) {
        for (std::size_t k = 0; k < size; ++k, ++at) bytes[k] = content(i, at);
      });
    }
    const OpenedNamespace space = host_.open_space();
    std::vector<BlockHash> hashes;
    for (std::uint32_t i = 0; i < PagedCache::kBlocks; ++i) {
      hashes.push_back(BlockHash::from(std::as_bytes(std::span(&i, 1))).value());
    }
    LayoutStore blocks;
    blocks.hashes = hashes;
    blocks.ids = cache_.ids;
    const Result<TransferReport> report = host_.client()->store(space, cache_.layout, blocks);
    if (!report || report->ok_count() != hashes.size()) return false;
    match_ = std::move(host_.client()->lookup(space, hashes).value());
    return true;
  }

  PagedCache cache_;
  MappedHost host_;
  Match match_;
  std::vector<FetchItem> items_;
  std::vector<FetchItem> whole_;
};

void fetch_mapped(benchmark::State& state, std::size_t piece, Way way, bool verify) {
  MappedCache cache(piece, verify);
  cache.forget();
  if (!cache.ready() || !cache.fetch(way) || (way != Way::whole && !cache.intact())) {
    return state.SkipWithError("wrong bytes, or not mapped");
  }
  for (auto _ : state) {
    if (!cache.fetch(way)) return state.SkipWithError("a fetch failed");
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(cache.bytes()));
}

}  // namespace

void register_layout_mapped_rows() {
  const auto add = [](const std::string& name, std::size_t piece, Way way) {
    for (const bool verify : {false, true}) {
      const std::string full =
          name + "/mapped" + (verify ? "_verified/" : "/") + std::to_string(piece);
      benchmark::RegisterBenchmark(
          full.c_str(), [=](benchmark::State& state) { fetch_mapped(state, piece, way, verify); })
          ->UseRealTime()
          ->Unit(benchmark::kMicrosecond)
          ->MinTime(0.2);
    }
  };
  for (const std::size_t piece : {256U, 1024U, 4096U, 16384U, 65536U}) {
    add("fetch_layout", piece, Way::layout);
    add("fetch_pieces", piece, Way::pieces);
    add("fetch_whole", piece, Way::whole);
  }
}

}  // namespace membrain
