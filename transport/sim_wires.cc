#include "transport/sim_wires.h"

#include <algorithm>
#include <cstring>

namespace membrain {

namespace {

/// A place in a list of segments.
class Cursor {
 public:
  Cursor(const std::vector<Segment>& segments, std::uint64_t at) noexcept
      : segment_(segments.data()), offset_(at) {
    settle();
  }
  [[nodiscard]] std::byte* data() const noexcept { return segment_->data + offset_; }
  /// Bytes in one piece from here.
  [[nodiscard]] std::uint64_t run() const noexcept { return segment_->size - offset_; }
  void skip(std::uint64_t bytes) noexcept {
    offset_ += bytes;
    if (offset_ == segment_->size) {
      ++segment_;
      offset_ = 0;
    }
  }
  /// Goes to a segment that has bytes here. Only while bytes are left.
  void settle() noexcept {
    while (offset_ >= segment_->size) {
      offset_ -= segment_->size;
      ++segment_;
    }
  }

 private:
  const Segment* segment_;
  std::uint64_t offset_;
};

}  // namespace

void copy_range(const std::vector<Segment>& source, const std::vector<Segment>& sink,
                std::uint64_t begin, std::uint64_t end) noexcept {
  if (begin == end) return;
  Cursor from(source, begin);
  Cursor to(sink, begin);
  for (std::uint64_t left = end - begin;;) {
    const std::uint64_t bytes = std::min({left, from.run(), to.run()});
    std::memcpy(to.data(), from.data(), bytes);
    left -= bytes;
    if (left == 0) return;
    from.skip(bytes);
    to.skip(bytes);
    from.settle();
    to.settle();
  }
}

void flip_bit(const std::vector<Segment>& segments, std::uint64_t bit) noexcept {
  const Cursor at(segments, bit / 8);
  *at.data() ^= std::byte{1} << (bit % 8);
}

}  // namespace membrain
