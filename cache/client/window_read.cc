#include "cache/client/window_read.h"

#include <algorithm>
#include <utility>

#include "cache/client/transfer_scratch.h"
#include "protocol/arena_header.h"

namespace membrain {

bool seal_names(std::span<const std::byte, sizeof(Seal)> seal, const FetchTarget& target,
                NamespaceId space) noexcept {
  alignas(Seal) std::array<std::byte, sizeof(Seal)> aligned;
  std::copy(seal.begin(), seal.end(), aligned.begin());
  const std::optional<SealContent> content =
      read_seal(*reinterpret_cast<const Seal*>(aligned.data()), target.at.slot);
  if (!content) return false;
  const wire::SlotEntry& entry = content->entry;
  return entry.generation == target.at.generation && entry.length == target.at.length &&
         entry.meta.space == space && entry.meta.key == target.key &&
         entry.meta.part == target.part;
}

WindowRead::WindowRead(NodeLinks& links, NodeWindows& windows,
                       std::shared_ptr<const NodeWindow> window, FetchTerms terms,
                       std::vector<FetchTarget> targets, FetchListener& listener)
    : links_(links),
      windows_(windows),
      window_(std::move(window)),
      terms_(std::move(terms)),
      targets_(std::move(targets)),
      listener_(listener),
      workers_(links.loop().ready()),
      timer_(links.loop(), [this] {
        if (stopped_) {
          windows_.abandon(*window_);
        } else {
          stop(Errc::timed_out);
        }
      }) {}

Task<std::vector<FetchTarget>> WindowRead::run() {
  timer_.arm(terms_.deadline);
  const std::size_t workers = std::min<std::size_t>(std::max(terms_.window, 1U), targets_.size());
  workers_.expect(static_cast<std::uint32_t>(workers));
  for (std::size_t i = 0; i < workers; ++i) links_.loop().spawn(work());
  workers_.finish({});
  const Result<> ended = co_await workers_;
  timer_.cancel();
  if (!ended) rest_.clear();  // workers end without an outcome
  co_return std::move(rest_);
}

void WindowRead::stop(Errc why) {
  if (stopped_) return;
  stopped_ = true;
  why_stopped_ = why;
  timer_.arm(links_.loop().now() + kDrain);
}

Task<> WindowRead::work() {
  while (next_ < targets_.size()) {
    const FetchTarget& target = targets_[next_++];
    bool whole = false;
    if (!stopped_ && window_->remote->usable() && window_->reaches(target.at)) {
      Task<bool> reading = read(target);
      whole = co_await reading;
    }
    if (whole) {
      listener_.on_target(target, {});
    } else if (stopped_) {
      listener_.on_target(target, fail(why_stopped_, "taken back"));
    } else {
      rest_.push_back(target);
    }
  }
  workers_.finish({});
}

Task<bool> WindowRead::read(const FetchTarget& target) {
  const std::uint64_t slot = std::uint64_t{target.at.slot.value} * kPageBytes;
  Loop& loop = links_.loop();
  {
    const Pool<SegmentList>::Lease segments = links_.scratch().segments.take();
    segments->clear();
    segments->add(target.into);
    Completion landed(loop.ready());
    window_->remote->read(window_->slots_offset + slot + target.offset, segments->to_receive(),
                          landed);
    const TimePoint began = loop.now();
    const Result<> bytes = co_await landed;
    failed_ = failed_ || !bytes;
    if (!bytes) co_return false;
    lane().moved(target.length, loop.now() - began, loop.now());
    segments->scatter();
  }
  // Only now: reads may overtake each other.
  std::array<std::byte, sizeof(Seal)> raw{};
  const Segment into{raw.data(), raw.size()};
  Completion sealed(loop.ready());
  const std::uint64_t seal_at = std::uint64_t{target.at.slot.value} * sizeof(Seal);
  window_->remote->read(window_->seals_offset + seal_at, {&into, 1}, sealed);
  const TimePoint asked = loop.now();
  const Result<> seal = co_await sealed;
  failed_ = failed_ || !seal;
  answered_ = answered_ || seal;
  if (seal) lane().answered(loop.now() - asked, loop.now());
  if (!seal || !seal_names(raw, target, terms_.space)) co_return false;
  co_return !target.verify || checksum_of(target.into) == target.at.checksum;
}

}  // namespace membrain
