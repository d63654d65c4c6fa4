// Layouts: where an engine's paged KV cache lies, told once, so that one call moves thousands of
// blocks by their ids.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "membrain/block.h"

namespace membrain {

class LayoutGeometry;

/// One plane of a paged KV cache, e.g. the keys of one layer: a piece of every block, at a fixed
/// distance from one block to the next.
struct LayoutPlane {
  void* base = nullptr;          ///< the piece of block 0
  std::size_t stride_bytes = 0;  ///< from a block's piece to the next block's; at least the piece
  std::size_t piece_bytes = 0;   ///< of one block in this plane
};

/// A whole cache. A block is the concatenation of its pieces in the order of the planes.
struct Layout {
  static constexpr std::size_t kMaxPlanes = 1024;
  std::vector<LayoutPlane> planes;
  std::uint32_t blocks = 0;  ///< ids are 0 .. blocks-1
};

/// A layout whose geometry was found sound (`Client::register_layout`): no piece is empty or lies
/// in another. A value; copies share the geometry. TCP, shared memory and mapped arenas need no
/// memory registered, so nothing else is done at registration (docs/adr/0018).
///
/// Ownership  The memory stays the caller's, and is lent to an operation as a list of pieces is.
/// Threads    Immutable: any thread.
class RegisteredLayout {
 public:
  explicit RegisteredLayout(std::shared_ptr<const LayoutGeometry> geometry) noexcept
      : geometry_(std::move(geometry)) {}

  [[nodiscard]] std::uint32_t block_count() const noexcept;
  [[nodiscard]] std::size_t plane_count() const noexcept;
  [[nodiscard]] std::size_t block_bytes() const noexcept;
  [[nodiscard]] const std::shared_ptr<const LayoutGeometry>& geometry() const noexcept {
    return geometry_;
  }

 private:
  std::shared_ptr<const LayoutGeometry> geometry_;
};

/// Which blocks of a match go where in a layout, and which planes of them. The spans are the
/// caller's until the call returns.
struct LayoutFetch {
  std::span<const std::uint32_t> ids = {};     ///< of the engine's blocks, each once
  std::uint32_t first_id = 0;                  ///< with no `ids`: first_id, first_id + 1, ...
  std::uint32_t count = 0;                     ///< with no `ids`: so many
  std::span<const std::uint32_t> blocks = {};  ///< of the match, as many as ids
  std::uint32_t first_block = 0;  ///< with no `blocks`: first_block, first_block + 1, ...
  std::uint16_t part = 0;
  std::uint32_t first_plane = 0;
  std::uint32_t plane_count = 0;  ///< 0: to the last. Less than all: no checksum is compared
};

/// A run of one prompt's blocks to keep from a layout: each block's parent is the one before it.
struct LayoutStore {
  std::span<const BlockHash> hashes = {};
  std::span<const std::uint32_t> ids = {};  ///< of the engine's blocks, as many as hashes
  std::uint32_t first_id = 0;               ///< with no `ids`: first_id, first_id + 1, ...
  BlockHash parent = {};                    ///< of the first; empty at the beginning of the prompt
  std::uint32_t first_depth = 0;            ///< blocks before the first in the prompt
  std::uint16_t part = 0;
  std::uint8_t priority = 0;  ///< higher stays longer
};

}  // namespace membrain
