// Place: where the bytes of one block range lie in the caller's memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/checksum.h"
#include "cache/memory/layout_geometry.h"
#include "membrain/block.h"

namespace membrain {

/// The concatenation of a list of pieces, or a range of a block in a layout, as a value: the
/// destination of a fetch or the source of a store. What a source's runs point to is only read,
/// although they are handed out as mutable: segments of the fabric are.
///
/// Ownership  The memory and the list of pieces, or the layout, belong to whoever made it, and
///            outlive it.
/// Cost       A few words; copied freely, never allocates. Making one reads the list once.
class Place {
 public:
  Place() = default;
  explicit Place(std::span<const Piece> pieces) noexcept
      : into_(pieces), size_bytes_(total(pieces)) {}
  explicit Place(std::span<const ConstPiece> pieces) noexcept
      : from_(pieces), size_bytes_(total(pieces)) {}
  /// `length` bytes of block `id` from `offset` on.
  Place(const LayoutGeometry& layout, std::uint32_t id, std::uint64_t offset,
        std::uint64_t length) noexcept
      : layout_(&layout), layout_offset_(offset), size_bytes_(length), id_(id) {}

  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_bytes_; }

  /// Calls `each(std::byte*, std::size_t)` for the `length` bytes from `offset` on, in order.
  /// Neighbours that touch come as one run; empty pieces do not come. The range lies within.
  template <class Each>
  void for_each_piece(std::uint64_t offset, std::uint64_t length, Each&& each) const;
  /// The same for all of it.
  template <class Each>
  void for_each_piece(Each&& each) const {
    for_each_piece(0, size_bytes_, each);
  }

 private:
  template <class Pieces>
  [[nodiscard]] static std::uint64_t total(Pieces pieces) noexcept {
    std::uint64_t bytes = 0;
    for (const auto& piece : pieces) bytes += piece.size;
    return bytes;
  }
  template <class Pieces, class Take>
  static void walk(Pieces pieces, std::uint64_t offset, std::uint64_t length, Take& take);

  std::span<const Piece> into_;
  std::span<const ConstPiece> from_;
  const LayoutGeometry* layout_ = nullptr;
  std::uint64_t layout_offset_ = 0;
  std::uint64_t size_bytes_ = 0;
  std::uint32_t id_ = 0;  ///< of the block in the layout
};

template <class Pieces, class Take>
void Place::walk(Pieces pieces, std::uint64_t offset, std::uint64_t length, Take& take) {
  for (const auto& piece : pieces) {
    if (length == 0) return;
    if (offset >= piece.size) {
      offset -= piece.size;
      continue;
    }
    const std::uint64_t left = piece.size - offset;
    const auto size = static_cast<std::size_t>(left < length ? left : length);
    auto* data = static_cast<std::byte*>(const_cast<void*>(piece.data));
    take(data + offset, size);
    offset = 0;
    length -= size;
  }
}

template <class Each>
void Place::for_each_piece(std::uint64_t offset, std::uint64_t length, Each&& each) const {
  std::byte* run = nullptr;
  std::size_t run_bytes = 0;
  const auto take = [&](std::byte* data, std::size_t size) {
    if (run_bytes != 0 && run + run_bytes == data) {
      run_bytes += size;
      return;
    }
    if (run_bytes != 0) each(run, run_bytes);
    run = data;
    run_bytes = size;
  };
  if (layout_ != nullptr) {
    layout_->walk(id_, layout_offset_ + offset, length, take);
  } else {
    walk(into_, offset, length, take);
    walk(from_, offset, length, take);  // one of the two lists is empty
  }
  if (run_bytes != 0) each(run, run_bytes);
}

/// XXH3-128 of the bytes of a place.
[[nodiscard]] inline Checksum checksum_of(const Place& place) noexcept {
  ChecksumStream stream;
  Checksum whole;
  bool one_run = false;
  place.for_each_piece([&](const std::byte* data, std::size_t size) {
    one_run = size == place.size_bytes();
    if (one_run) {
      whole = checksum({data, size});
    } else {
      stream.add({data, size});
    }
  });
  return one_run ? whole : stream.finish();
}

}  // namespace membrain
