#include "cache/memory/layout_geometry.h"

#include <cstddef>
#include <limits>

namespace membrain {

namespace {

constexpr std::uint64_t kMostBytes = std::numeric_limits<std::uint32_t>::max();  // of a block
constexpr std::uint64_t kMostAddress = std::uint64_t{1} << 56;

std::uint64_t address_of(const LayoutPlane& plane) noexcept {
  return reinterpret_cast<std::uintptr_t>(plane.base);
}

/// From the first byte of block 0 to the last of the last block.
std::uint64_t extent_of(const LayoutPlane& plane, std::uint32_t blocks) noexcept {
  return plane.stride_bytes * (blocks - std::uint64_t{1}) + plane.piece_bytes;
}

const char* fault_of(const LayoutPlane& plane, std::uint32_t blocks) noexcept {
  if (plane.base == nullptr) return "a plane has no base";
  if (plane.piece_bytes == 0) return "a plane has empty pieces";
  if (plane.piece_bytes > kMostBytes) return "a plane's pieces are too large";
  if (blocks > 1 && plane.stride_bytes < plane.piece_bytes) {
    return "a plane's stride is less than its pieces";
  }
  if (plane.stride_bytes > kMostAddress / blocks) return "a plane ends beyond all memory";
  if (address_of(plane) > kMostAddress - extent_of(plane, blocks)) {
    return "a plane ends beyond all memory";
  }
  return nullptr;
}

/// Whether a piece of one lies in a piece of the other. Planes whose ranges cross must have the
/// same stride: then what holds for one pair of neighbours holds for all.
bool overlap(const LayoutPlane& one, const LayoutPlane& other, std::uint32_t blocks) noexcept {
  const bool in_order = address_of(one) <= address_of(other);
  const LayoutPlane& low = in_order ? one : other;
  const LayoutPlane& high = in_order ? other : one;
  const std::uint64_t apart = address_of(high) - address_of(low);
  if (apart >= extent_of(low, blocks)) return false;
  if (low.stride_bytes != high.stride_bytes || low.stride_bytes == 0) return true;
  const std::uint64_t within = apart % low.stride_bytes;
  return within < low.piece_bytes || within + high.piece_bytes > low.stride_bytes;
}

}  // namespace

Result<std::shared_ptr<const LayoutGeometry>> LayoutGeometry::check(const Layout& layout) {
  const auto bad = [](const char* why) { return fail(Errc::invalid_argument, why); };
  if (layout.blocks == 0) return bad("a layout has at least one block");
  if (layout.planes.empty()) return bad("a layout has at least one plane");
  if (layout.planes.size() > Layout::kMaxPlanes) return bad("a layout has at most 1024 planes");
  std::uint64_t bytes = 0;
  for (const LayoutPlane& plane : layout.planes) {
    if (const char* fault = fault_of(plane, layout.blocks); fault != nullptr) return bad(fault);
    bytes += plane.piece_bytes;
  }
  if (bytes > kMostBytes) return bad("a layout's blocks are too large");
  for (std::size_t i = 0; i < layout.planes.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (overlap(layout.planes[i], layout.planes[j], layout.blocks)) {
        return bad("two planes of a layout overlap");
      }
    }
  }
  return std::shared_ptr<const LayoutGeometry>(new LayoutGeometry(layout));
}

LayoutGeometry::LayoutGeometry(const Layout& layout) : blocks_(layout.blocks) {
  std::uint64_t offset = 0;
  for (const LayoutPlane& plane : layout.planes) {
    plane_offsets_.push_back(offset);
    auto* base = static_cast<std::byte*>(plane.base);
    const bool touches = !runs_.empty() && runs_.back().base + runs_.back().bytes == base &&
                         (runs_.back().stride_bytes == plane.stride_bytes || blocks_ == 1);
    if (touches) {
      runs_.back().bytes += plane.piece_bytes;
    } else {
      runs_.push_back({base, plane.stride_bytes, plane.piece_bytes, offset});
    }
    offset += plane.piece_bytes;
  }
  plane_offsets_.push_back(offset);
  const bool uniform = std::all_of(runs_.begin(), runs_.end(), [this](const Run& run) {
    return run.bytes == runs_.front().bytes;
  });
  if (uniform) uniform_bytes_ = runs_.front().bytes;
}

std::size_t LayoutGeometry::run_at(std::uint64_t offset) const noexcept {
  if (uniform_bytes_ != 0) return static_cast<std::size_t>(offset / uniform_bytes_);
  const auto behind =
      std::upper_bound(runs_.begin(), runs_.end(), offset,
                       [](std::uint64_t at, const Run& run) { return at < run.offset; });
  return static_cast<std::size_t>(behind - runs_.begin()) - 1;
}

std::uint32_t RegisteredLayout::block_count() const noexcept {
  return geometry_->block_count();
}

std::size_t RegisteredLayout::plane_count() const noexcept {
  return geometry_->plane_count();
}

std::size_t RegisteredLayout::block_bytes() const noexcept {
  return static_cast<std::size_t>(geometry_->block_bytes());
}

}  // namespace membrain
