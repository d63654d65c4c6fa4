// The items of one fetch, as the client keeps them while it is under way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cache/memory/place.h"
#include "cache/memory/straight.h"
#include "membrain/client.h"
#include "membrain/layout.h"
#include "membrain/result.h"

namespace membrain {

/// One range of one block part, and where it goes.
struct WantedRange {
  std::uint32_t block = 0;  ///< index into the lookup's hashes
  std::uint16_t part = 0;
  bool sound = true;         ///< no piece is null, or larger than memory can be
  std::uint32_t offset = 0;  ///< bytes into the part
  std::uint32_t length = 0;  ///< bytes; 0: to the end of the part
  Place into;
  DeviceSpot* spot = nullptr;  ///< where it may land instead, unverified; the caller's, or null
};

/// A copy of what the caller asked for, flat: two allocations, however many items and pieces.
///
/// Ownership  Shares the lists of pieces with what was `picked` from it, or the layout with its
///            caller; not the memory that they name.
class FetchList {
 public:
  FetchList() = default;
  FetchList(std::span<const FetchItem> items);  // NOLINT: any list of items is one
  FetchList(const std::vector<FetchItem>& items)
      : FetchList(std::span<const FetchItem>(items)) {}  // NOLINT: likewise
  /// Blocks by their ids in a layout: one allocation. `invalid_argument` for what does not fit.
  static Result<FetchList> of(const RegisteredLayout& into, const LayoutFetch& fetch);
  /// Some of its items, in this order.
  [[nodiscard]] FetchList picked(std::span<const std::uint32_t> items) const;
  /// `count` of its items from `first` on, that come into `memory` instead, one behind the other.
  [[nodiscard]] FetchList staged(std::size_t first, std::size_t count, std::byte* memory) const;
  /// Lets an item land on a GPU; `spot` outlives the fetch.
  void allow(std::size_t item, DeviceSpot& spot) noexcept { ranges_[item].spot = &spot; }
  FetchList(FetchList&&) noexcept = default;
  FetchList& operator=(FetchList&&) noexcept = default;

  [[nodiscard]] std::size_t size() const noexcept { return ranges_.size(); }
  [[nodiscard]] const WantedRange& operator[](std::size_t item) const noexcept {
    return ranges_[item];
  }

 private:
  std::vector<WantedRange> ranges_;
  std::shared_ptr<const void> owner_;  ///< what the places point to: a layout, or all pieces
};

}  // namespace membrain
