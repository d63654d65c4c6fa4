#include "cache/node/suspects.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace membrain {

Suspects::Suspects(Loop& loop, BlockTable& table, std::function<void(const wire::SlotRef&)> found)
    : loop_(loop), table_(table), found_(std::move(found)), timer_(loop, [] {}) {
  timer_.set_fire([this] { next(); });
}

Suspects::~Suspects() {
  membrain::check(!check_, "suspects were destroyed while one was hashed");
}

void Suspects::suspect(const wire::SlotRef& at) {
  if (stopped_ || waiting_.size() >= kMaxWaiting) return;
  if (check_ && check_->at == at) return;
  if (std::find(waiting_.begin(), waiting_.end(), at) != waiting_.end()) return;
  waiting_.push_back(at);
  if (!timer_.armed()) timer_.arm(loop_.now());
}

void Suspects::stop() {
  stopped_ = true;
  timer_.cancel();
  waiting_.clear();
  if (!check_) return;
  table_.close_read(check_->at);
  check_.reset();
}

/// Hashes a slice and sleeps for as long as it may take at kBytesPerSecond.
void Suspects::next() {
  if (!check_) {
    if (waiting_.empty()) return;
    const wire::SlotRef at = waiting_.front();
    waiting_.pop_front();
    std::span<std::byte> bytes;
    Checksum expected;
    const wire::ItemStatus status = table_.open_read(at, bytes, expected);
    if (status == wire::ItemStatus::ok) {
      check_.emplace();
      check_->at = at, check_->bytes = bytes, check_->expected = expected, check_->done = 0;
    } else if (status == wire::ItemStatus::corrupt) {
      condemn(at);
    }
  }
  const std::size_t hashed = check_ ? hash_slice() : 0;
  if (!check_ && waiting_.empty()) return;
  timer_.arm(loop_.now() + std::chrono::nanoseconds(hashed * 1'000'000'000 / kBytesPerSecond));
}

std::size_t Suspects::hash_slice() {
  Check& now = *check_;
  const std::size_t size = std::min(kSliceBytes, now.bytes.size() - now.done);
  now.sum.add(now.bytes.subspan(now.done, size));
  now.done += size;
  if (now.done < now.bytes.size()) return size;
  const wire::SlotRef at = now.at;
  const bool sound = now.sum.finish() == now.expected;
  check_.reset();
  if (!sound) condemn(at);
  table_.close_read(at);
  return size;
}

void Suspects::condemn(const wire::SlotRef& at) {
  if (!table_.mark_corrupt(at)) return;
  log(LogLevel::error, "node: slot {} was written over, or its seal was: not served any more",
      at.slot.value);
  found_(at);
}

}  // namespace membrain
