// The blocks of one store, as the client keeps them while it is under way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "cache/memory/layout_geometry.h"
#include "cache/memory/place.h"
#include "membrain/client.h"
#include "membrain/layout.h"
#include "membrain/result.h"
#include "transport/fabric.h"

namespace membrain {

/// Items with their pieces or, with a layout, with the engine's block ids.
///
/// Ownership  Owns the lists of pieces, not the memory that they name.
struct StoreList {
  StoreList() = default;
  StoreList(std::vector<StoreItem> list) : items(std::move(list)) {}  // NOLINT: a list is one
  StoreList(std::initializer_list<StoreItem> list) : items(list) {}   // NOLINT: likewise
  /// `invalid_argument` for what does not fit the layout.
  static Result<StoreList> of(const RegisteredLayout& from, const LayoutStore& blocks);

  [[nodiscard]] Place place(std::size_t item) const noexcept {
    if (!layout) return Place(std::span<const ConstPiece>(items[item].from));
    return Place(*layout, ids[item], 0, layout->block_bytes());
  }

  /// Bytes of an item.
  [[nodiscard]] std::uint64_t bytes(std::size_t item) const noexcept {
    return place(item).size_bytes();
  }
  /// Some items, with their pieces, which these have no more.
  [[nodiscard]] StoreList take(const std::vector<std::size_t>& numbers);
  /// `count` items from `first` on, likewise.
  [[nodiscard]] StoreList take(std::size_t first, std::size_t count);

  /// The same of items whose bytes have come to `memory`, one behind the other.
  [[nodiscard]] StoreList staged(std::span<const std::uint32_t> numbers,
                                 const std::byte* memory) const;

  /// Of blocks that lie in a GPU's memory: nothing here touches their bytes.
  struct OnDevice {
    const Region* region = nullptr;  ///< covers them; may be null
    std::vector<Checksum> sums;      ///< by item
  };

  std::vector<StoreItem> items;
  std::shared_ptr<const LayoutGeometry> layout;
  std::vector<std::uint32_t> ids;  ///< by item, in `layout`
  std::optional<OnDevice> device;  ///< each item is one run of a GPU's memory
};

}  // namespace membrain
