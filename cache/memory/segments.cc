#include "cache/memory/segments.h"

#include "base/gather.h"

namespace membrain {

void SegmentList::add(std::byte* at, std::size_t size) {
  if (size == 0) return;
  size_ += size;
  if (!segments_.empty() && segments_.back().data + segments_.back().size == at) {
    segments_.back().size += size;
  } else {
    segments_.push_back({at, size, nullptr});
  }
}

void SegmentList::add(const Segment& run) {
  size_ += run.size;
  segments_.push_back(run);
}

void SegmentList::add(const Place& place) {
  place.for_each_piece([this](std::byte* at, std::size_t size) { add(at, size); });
}

void SegmentList::clear() noexcept {
  segments_.clear();
  size_ = 0;
  bounced_ = false;
  if (buffer_bytes_ <= kKeptBounceBytes) return;
  buffer_.reset();
  buffer_bytes_ = 0;
}

void SegmentList::bounce() {
  if (size_ > buffer_bytes_) {
    buffer_ = std::make_unique_for_overwrite<std::byte[]>(size_);
    buffer_bytes_ = size_;
  }
  bounced_ = true;
  whole_ = {buffer_.get(), size_, nullptr};
}

std::span<const Segment> SegmentList::to_receive() {
  if (segments_.size() <= Fabric::kMaxSegments) return segments_;
  bounce();
  return {&whole_, 1};
}

void SegmentList::scatter() const noexcept {
  if (!bounced_) return;
  membrain::scatter(std::span<const Segment>(segments_), buffer_.get());
}

std::span<const Segment> SegmentList::to_send() {
  if (segments_.size() <= Fabric::kMaxSegments) return segments_;
  bounce();
  gather(buffer_.get(), std::span<const Segment>(segments_));
  return {&whole_, 1};
}

}  // namespace membrain
