#include "cache/client/fetch_list.h"

#include <algorithm>
#include <utility>

namespace membrain {

namespace {

/// Real addresses, and sizes whose sum is one.
bool is_sound(std::span<const Piece> pieces) noexcept {
  std::uint64_t left = ~std::uint64_t{0};
  for (const Piece& piece : pieces) {
    if (piece.data == nullptr && piece.size != 0) return false;
    if (piece.size > left) return false;
    left -= piece.size;
  }
  return true;
}

}  // namespace

FetchList::FetchList(std::span<const FetchItem> items) {
  std::size_t pieces = 0;
  for (const FetchItem& item : items) pieces += item.into.size();
  ranges_.reserve(items.size());
  std::shared_ptr<Piece[]> copies = std::make_shared<Piece[]>(pieces);
  Piece* next = copies.get();
  for (const FetchItem& item : items) {
    const std::span<const Piece> into(next, item.into.size());
    next = std::copy(item.into.begin(), item.into.end(), next);
    WantedRange range;
    range.block = item.block;
    range.part = item.part;
    range.sound = is_sound(item.into);
    range.offset = item.offset;
    range.length = item.length;
    range.into = Place(into);
    ranges_.push_back(range);
  }
  owner_ = std::move(copies);
}

FetchList FetchList::picked(std::span<const std::uint32_t> items) const {
  FetchList list;
  list.ranges_.reserve(items.size());
  for (const std::uint32_t item : items) list.ranges_.push_back(ranges_[item]);
  list.owner_ = owner_;
  return list;
}

FetchList FetchList::staged(std::size_t first, std::size_t count, std::byte* memory) const {
  FetchList list;
  list.ranges_.reserve(count);
  std::shared_ptr<Piece[]> pieces = std::make_shared<Piece[]>(count);
  Piece* next = pieces.get();
  for (std::size_t i = 0; i < count; ++i, ++next) {
    WantedRange range = ranges_[first + i];
    *next = {memory, static_cast<std::size_t>(range.into.size_bytes())};
    memory += next->size;
    range.into = Place(std::span<const Piece>(next, 1));
    list.ranges_.push_back(range);
  }
  list.owner_ = std::move(pieces);
  return list;
}

}  // namespace membrain
