// An engine's paged cache: planes of pieces, and the ids that a prompt happened to get.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "bench/page_memory.h"
#include "cache/client/fetch_list.h"
#include "cache/memory/layout_geometry.h"

namespace membrain {

/// 80 layers with keys and values of each, one behind the other; 16 blocks of a prompt, anywhere
/// among 32.
struct PagedCache {
  static constexpr std::size_t kPlanes = 160;
  static constexpr std::uint32_t kBlocks = 16;
  static constexpr std::uint32_t kIds = 2 * kBlocks;

  explicit PagedCache(std::size_t piece) : memory(kPlanes * kIds * piece), ids(kIds) {
    Layout made;
    made.blocks = kIds;
    for (std::size_t plane = 0; plane < kPlanes; ++plane) {
      made.planes.push_back({memory.data() + plane * kIds * piece, piece, piece});
    }
    layout = RegisteredLayout(LayoutGeometry::check(made).value());
    std::iota(ids.begin(), ids.end(), 0U);
    std::shuffle(ids.begin(), ids.end(), std::mt19937(2));
    ids.resize(kBlocks);
  }
  [[nodiscard]] LayoutFetch wanted() const {
    LayoutFetch fetch;
    fetch.ids = ids;
    return fetch;
  }
  [[nodiscard]] FetchList list() const { return std::move(*FetchList::of(layout, wanted())); }
  [[nodiscard]] Place place(std::uint32_t block) const {
    return Place(*layout.geometry(), ids[block], 0, layout.block_bytes());
  }
  /// The same as lists of pieces.
  [[nodiscard]] std::vector<FetchItem> items() const {
    std::vector<FetchItem> items(kBlocks);
    for (std::uint32_t i = 0; i < kBlocks; ++i) {
      items[i].block = i;
      place(i).for_each_piece([&](std::byte* at, std::size_t size) {
        items[i].into.push_back({at, size});
      });
    }
    return items;
  }
  /// The same blocks, contiguous, in the same memory.
  [[nodiscard]] std::vector<FetchItem> whole_items() {
    std::vector<FetchItem> items(kBlocks);
    const std::size_t bytes = layout.block_bytes();
    for (std::uint32_t i = 0; i < kBlocks; ++i) {
      items[i].block = i;
      items[i].into = {{memory.data() + i * bytes, bytes}};
    }
    return items;
  }
  /// Whether byte `at` of each block is `content(block, at)`.
  template <class Content>
  [[nodiscard]] bool holds(Content content) const {
    bool right = true;
    for (std::uint32_t i = 0; i < kBlocks; ++i) {
      std::size_t at = 0;
      place(i).for_each_piece([&](const std::byte* bytes, std::size_t size) {
        for (std::size_t k = 0; k < size; ++k, ++at) right = right && bytes[k] == content(i, at);
      });
    }
    return right;
  }

  PageMemory memory;
  std::vector<std::uint32_t> ids;
  RegisteredLayout layout{nullptr};
};

}  // namespace membrain
