#include "cache/memory/device_lane.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace membrain {

namespace {

/// How often an engine's event is asked for: soon at first, as it mostly has come already.
constexpr Duration kFirstPause = std::chrono::microseconds(20);
constexpr Duration kLongestPause = std::chrono::microseconds(500);

/// On a thread of the driver's.
void ring(void* bell) {
  static_cast<Bell*>(bell)->ring();
}

}  // namespace

DeviceLane::DeviceLane(Loop& loop, std::shared_ptr<const cuda::Device> device,
                       std::unique_ptr<cuda::Staging> staging)
    : loop_(loop),
      device_(std::move(device)),
      staging_(std::move(staging)),
      slots_(staging_->free_slots()) {}

DeviceLane::~DeviceLane() {
  check(staging_->free_slots() == slots_ && waiting_.empty(),
        "a DeviceLane was destroyed under a transfer");
}

Result<std::unique_ptr<DeviceLane>> DeviceLane::open(Loop& loop,
                                                     std::shared_ptr<const cuda::Device> device,
                                                     std::size_t slots, std::size_t slot_bytes) {
  Result<std::unique_ptr<cuda::Staging>> staging = cuda::Staging::create(device, slots, slot_bytes);
  if (!staging) return fail(staging.error());
  return std::unique_ptr<DeviceLane>(new DeviceLane(loop, std::move(device), std::move(*staging)));
}

Result<> DeviceLane::check_memory(const Place& place) const {
  const std::byte* first = nullptr;
  const std::byte* last = nullptr;
  place.for_each_piece([&](const std::byte* data, std::size_t size) {
    if (first == nullptr) first = data;
    last = data + size - 1;
  });
  if (first == nullptr) return {};
  for (const std::byte* end : {first, last}) {
    const Result<cuda::Whereabouts> where = cuda::whereabouts(device_->driver(), end);
    if (!where) return fail(where.error());
    const bool here = where->kind == cuda::Whereabouts::Kind::device && where->device == ordinal();
    if (!here && where->kind != cuda::Whereabouts::Kind::managed) {
      return fail(Errc::invalid_argument, "a piece does not lie in the memory of that GPU");
    }
  }
  return {};
}

Result<std::size_t> DeviceLane::chunks_of(const Place& block) const {
  if (block.size_bytes() > slot_bytes()) {
    return fail(Errc::invalid_argument,
                "a block is larger than ClientConfig::staging_slot_bytes: raise it");
  }
  if (const Result<> fine = check_memory(block); !fine) return fail(fine.error());
  std::size_t chunks = 0;
  block.for_each_piece([&chunks](const std::byte*, std::size_t size) {
    chunks += cuda::ChunkTable::chunks_of(size);
  });
  if (chunks > kMaxChunks) {
    return fail(Errc::invalid_argument, "a block in more pieces than the GPU moves at once");
  }
  return chunks;
}

void DeviceLane::go_straight(Fabric& fabric) {
  straight_ = true;
  std::vector<cuda::StagingSlot*> taken;
  while (cuda::StagingSlot* const slot = staging_->take()) {
    taken.push_back(slot);
    Result<std::unique_ptr<Region>> region = fabric.register_device_memory(slot->device());
    if (region) regions_[slot] = std::move(*region);
  }
  for (cuda::StagingSlot* const slot : taken) staging_->give_back(slot);
}

const Region* DeviceLane::region_of(const cuda::StagingSlot* slot) const noexcept {
  const auto found = regions_.find(slot);
  return found == regions_.end() ? nullptr : found->second.get();
}

// ---- slots

Task<Result<DeviceLane::Slot>> DeviceLane::take(TimePoint deadline, Stopped stopped) {
  const auto too_late = [&] {
    return fail(stopped() ? Errc::cancelled : Errc::timed_out, "no staging slot in time");
  };
  if (stopped() || loop_.now() >= deadline) co_return too_late();
  if (staging_->free_slots() == 0 || !waiting_.empty()) {
    Signal freed(loop_.ready());
    Timer late(loop_, [&freed] { freed.raise(); });
    late.arm(deadline);
    const auto self = waiting_.insert(waiting_.end(), &freed);
    const auto first_with_slot = [&] {
      return staging_->free_slots() != 0 && waiting_.front() == &freed;
    };
    while (!stopped() && loop_.now() < deadline && !first_with_slot()) co_await freed;
    const bool got = first_with_slot();
    waiting_.erase(self);
    if (!got) {
      wake_next();
      co_return too_late();
    }
  }
  cuda::StagingSlot* const slot = staging_->take();
  wake_next();
  std::shared_ptr<Bell>& bell = bells_[slot];
  if (!bell) bell = std::make_shared<Bell>(loop_);
  co_return Slot(*this, slot);
}

void DeviceLane::give_back(cuda::StagingSlot* slot) noexcept {
  staging_->give_back(slot);
  wake_next();
}

void DeviceLane::wake_next() noexcept {
  if (!waiting_.empty() && staging_->free_slots() != 0) waiting_.front()->raise();
}

void DeviceLane::stir() noexcept {
  for (Signal* waiting : waiting_) waiting->raise();
}

// ---- waiting for the GPU

Task<Result<>> DeviceLane::reached(cuda::RawEvent event, TimePoint deadline, Stopped stopped) {
  for (Duration pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
    const Result<bool> come = cuda::is_done(*device_, event);
    if (!come) co_return fail(come.error());
    if (*come) co_return Result<>{};
    if (stopped()) co_return fail(Errc::cancelled, "the transfer was taken back");
    if (loop_.now() >= deadline) co_return fail(Errc::timed_out, "the engine's event did not come");
    co_await loop_.sleep_until(std::min(deadline, loop_.now() + pause));
  }
}

Task<Result<>> DeviceLane::landed(Slot& slot) {
  Result<bool> over = false;
  Task<> waiting = bell_of(slot).until([&] {
    over = slot.slot_->landed();
    return !over || *over;
  });
  co_await waiting;
  if (!over) co_return fail(over.error());
  co_return Result<>{};
}

Task<Result<>> DeviceLane::gather(Slot& slot, std::span<const cuda::DevicePiece> from) {
  const Result<> queued = slot.slot_->gather(from, nullptr, &ring, &bell_of(slot));
  if (!queued) co_return queued;
  Task<Result<>> landing = landed(slot);
  co_return co_await landing;
}

Task<Result<>> DeviceLane::scatter(Slot& slot, std::span<const cuda::DevicePiece> to) {
  const Result<> queued = slot.slot_->scatter(to, &ring, &bell_of(slot));
  if (!queued) co_return queued;
  Task<Result<>> landing = landed(slot);
  co_return co_await landing;
}

Task<Result<std::vector<Checksum>>> DeviceLane::pull(Slot& slot,
                                                     std::span<const cuda::HostRun> from,
                                                     bool sums) {
  const Result<> queued = slot.slot_->pull(from, sums, &ring, &bell_of(slot));
  if (!queued) co_return fail(queued.error());
  Task<Result<>> landing = landed(slot);
  const Result<> over = co_await landing;
  if (!over) co_return fail(over.error());
  co_return sums ? slot.slot_->sums() : std::vector<Checksum>{};
}

Task<Result<std::vector<Checksum>>> DeviceLane::hash(Slot& slot,
                                                     std::span<const cuda::DevicePiece> from,
                                                     std::span<const cuda::StagedBlock> blocks) {
  const Result<> queued = slot.slot_->hash(from, blocks, &ring, &bell_of(slot));
  if (!queued) co_return fail(queued.error());
  Task<Result<>> landing = landed(slot);
  const Result<> over = co_await landing;
  if (!over) co_return fail(over.error());
  co_return blocks.empty() ? std::vector<Checksum>{} : slot.slot_->sums();
}

Task<Result<>> DeviceLane::spread(Slot& slot, std::span<const cuda::DevicePiece> to) {
  const Result<> queued = slot.slot_->spread(to, &ring, &bell_of(slot));
  if (!queued) co_return queued;
  Task<Result<>> landing = landed(slot);
  co_return co_await landing;
}

}  // namespace membrain
