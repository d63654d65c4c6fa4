// LayoutGeometry: a checked layout, and its pieces one by one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "membrain/layout.h"
#include "membrain/result.h"

namespace membrain {

/// Planes that touch within a block (the same stride, one behind the other) are one run: a layout
/// whose blocks are contiguous has a single one.
///
/// A fabric that must register memory would do so here, once a plane, and name the regions in
/// its segments.
///
/// Threads  Immutable.
/// Cost     A piece costs an addition; finding the first of a range a division or, with planes of
///          unlike sizes, a binary search.
class LayoutGeometry {
 public:
  /// `invalid_argument` with the reason.
  static Result<std::shared_ptr<const LayoutGeometry>> check(const Layout& layout);

  [[nodiscard]] std::uint32_t block_count() const noexcept { return blocks_; }
  [[nodiscard]] std::size_t plane_count() const noexcept { return plane_offsets_.size() - 1; }
  /// Bytes of a block before plane `plane`; of the whole block for the plane behind the last.
  [[nodiscard]] std::uint64_t offset_of(std::size_t plane) const noexcept {
    return plane_offsets_[plane];
  }
  [[nodiscard]] std::uint64_t block_bytes() const noexcept { return plane_offsets_.back(); }
  [[nodiscard]] std::size_t run_count() const noexcept { return runs_.size(); }

  /// Calls `take(std::byte*, std::size_t)` for `length` bytes of block `id` from `offset` on.
  template <class Take>
  void walk(std::uint32_t id, std::uint64_t offset, std::uint64_t length, Take& take) const {
    for (std::size_t at = run_at(offset); length != 0; ++at) {
      const Run& run = runs_[at];
      const std::uint64_t skipped = offset - run.offset;
      const std::uint64_t size = std::min(run.bytes - skipped, length);
      take(run.base + id * run.stride_bytes + skipped, static_cast<std::size_t>(size));
      offset += size;
      length -= size;
    }
  }

 private:
  struct Run {
    std::byte* base;
    std::uint64_t stride_bytes;
    std::uint64_t bytes;
    std::uint64_t offset;  ///< bytes of a block before it
  };

  explicit LayoutGeometry(const Layout& layout);
  [[nodiscard]] std::size_t run_at(std::uint64_t offset) const noexcept;

  std::vector<Run> runs_;
  std::vector<std::uint64_t> plane_offsets_;
  std::uint64_t uniform_bytes_ = 0;  ///< of every run; 0 if they differ
  std::uint32_t blocks_;
};

}  // namespace membrain
