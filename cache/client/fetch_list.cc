#include "cache/client/fetch_list.h"

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
  pieces_.reserve(pieces);  // the places point into it: it must not grow
  for (const FetchItem& item : items) {
    const std::size_t first = pieces_.size();
    pieces_.insert(pieces_.end(), item.into.begin(), item.into.end());
    WantedRange range;
    range.block = item.block;
    range.part = item.part;
    range.sound = is_sound(item.into);
    range.offset = item.offset;
    range.length = item.length;
    range.into = Place(std::span<const Piece>(pieces_).subspan(first));
    ranges_.push_back(range);
  }
}

}  // namespace membrain
