// Places in the caller's memory as segments of one send or receive.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "cache/memory/place.h"
#include "transport/fabric.h"

namespace membrain {

/// Builds the segments of one payload: neighbours that touch become one. What still has more than
/// Fabric::kMaxSegments goes through one contiguous bounce buffer; fewer never do, however short:
/// the buffer was slower or no faster from 256 B to 64 KiB (docs/adr/0018).
///
/// Ownership  Owns the bounce buffer, if there is one: lives until the transfer is complete. The
///            places stay the caller's.
/// Cost       A list that is used again keeps its memory (of a bounce buffer: kKeptBounceBytes).
class SegmentList {
 public:
  static constexpr std::size_t kKeptBounceBytes = std::size_t{1} << 20;

  void add(const Place& place);
  void add(std::byte* at, std::size_t size);
  /// A run of a GPU's memory, which is the whole payload.
  void add(const Segment& run);
  /// Begins anew.
  void clear() noexcept;

  /// To receive into; `scatter` after the bytes have landed.
  [[nodiscard]] std::span<const Segment> to_receive();
  void scatter() const noexcept;
  /// True if the payload lies in a GPU's memory.
  [[nodiscard]] bool on_device() const noexcept {
    return !segments_.empty() && segments_.front().kind != MemoryKind::host;
  }
  /// To send from: gathers first, if need be.
  [[nodiscard]] std::span<const Segment> to_send();

 private:
  void bounce();

  std::vector<Segment> segments_;
  std::unique_ptr<std::byte[]> buffer_;
  std::size_t buffer_bytes_ = 0;
  bool bounced_ = false;
  Segment whole_;
  std::size_t size_ = 0;
};

}  // namespace membrain
