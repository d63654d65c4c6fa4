// The way between one GPU and the client's transfers: staging slots, and waiting for the GPU
// without blocking the loop.
#pragma once

#include <cstddef>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "cache/memory/bell.h"
#include "cache/memory/place.h"
#include "membrain/result.h"
#include "transport/cuda/staging.h"
#include "transport/fabric.h"
#include "transport/loop.h"
#include "transport/signal.h"
#include "transport/task.h"

namespace membrain {

/// A GPU, from the data loop.
///
/// Ownership  The loop outlives it. No slot is out, and nobody waits, when it is destroyed.
/// Threads    `open`, `check_memory` and what never changes: any; the rest: the data loop's.
class DeviceLane {
 public:
  /// Chunks of a GPU's copies that one slot's table holds.
  static constexpr std::size_t kMaxChunks = cuda::ChunkTable::kMaxChunks;
  /// Asked while it waits: true if nobody wants the outcome any more.
  using Stopped = std::function<bool()>;

  static Result<std::unique_ptr<DeviceLane>> open(Loop& loop,
                                                  std::shared_ptr<const cuda::Device> device,
                                                  std::size_t slots, std::size_t slot_bytes);
  ~DeviceLane();
  DeviceLane(const DeviceLane&) = delete;
  DeviceLane& operator=(const DeviceLane&) = delete;

  [[nodiscard]] Loop& loop() const noexcept { return loop_; }
  [[nodiscard]] const std::shared_ptr<const cuda::Device>& device() const noexcept {
    return device_;
  }
  [[nodiscard]] int ordinal() const noexcept { return device_->ordinal(); }
  [[nodiscard]] std::size_t slot_count() const noexcept { return slots_; }
  [[nodiscard]] std::size_t slot_bytes() const noexcept { return staging_->slot_bytes(); }
  /// Chunks of the kernel's that a block takes. `invalid_argument` if no slot takes it, or it is
  /// not in this GPU's memory (`check_memory`).
  [[nodiscard]] Result<std::size_t> chunks_of(const Place& block) const;
  /// `invalid_argument` unless a place begins and ends in this GPU's memory (or in managed memory):
  /// a kernel that touches anything else would end the engine's use of the GPU too. Pieces between
  /// are taken on trust. About 2 us.
  [[nodiscard]] Result<> check_memory(const Place& place) const;

  /// Registers the slots' memory on the GPU with the fabric that will move it: from now on
  /// transfers may go straight (`straight`). Before the loop runs, with the GPU's context current,
  /// as it has to be on the thread that turns the loop. What a fabric does not register, it
  /// registers by itself when it is used.
  void go_straight(Fabric& fabric);
  [[nodiscard]] bool straight() const noexcept { return straight_; }

  /// A slot that its holder has alone. Empty when it was moved from.
  class Slot {
   public:
    Slot(DeviceLane& lane, cuda::StagingSlot* slot) noexcept : lane_(&lane), slot_(slot) {}
    Slot(Slot&& other) noexcept : lane_(other.lane_), slot_(std::exchange(other.slot_, nullptr)) {}
    Slot& operator=(Slot&&) = delete;
    ~Slot() {
      if (slot_ != nullptr) lane_->give_back(slot_);
    }
    [[nodiscard]] std::span<std::byte> host() const noexcept { return slot_->host(); }
    /// Its memory on the GPU, for a fabric, while nothing else is done with the slot.
    [[nodiscard]] Segment device() const noexcept {
      return {slot_->device().data(), slot_->device().size(), lane_->region_of(slot_),
              MemoryKind::cuda};
    }

   private:
    friend class DeviceLane;
    DeviceLane* lane_;
    cuda::StagingSlot* slot_;
  };
  /// First come, first served. `timed_out`, `cancelled` (see `stir`).
  Task<Result<Slot>> take(TimePoint deadline, Stopped stopped);
  /// Who waits for a slot asks whether he still should.
  void stir() noexcept;

  /// Waits for an event of the engine's. `timed_out`, `cancelled`, `unavailable` for no event or a
  /// GPU that has failed.
  Task<Result<>> reached(cuda::RawEvent event, TimePoint deadline, Stopped stopped);
  /// Pieces of the GPU's memory -> `slot.host()`, in their order; when this has ended, whatever the
  /// outcome, nothing is under way.
  Task<Result<>> gather(Slot& slot, std::span<const cuda::DevicePiece> from);
  /// `slot.host()` -> pieces of the GPU's memory, likewise.
  Task<Result<>> scatter(Slot& slot, std::span<const cuda::DevicePiece> to);
  /// Page-locked memory of the host -> the slot's memory on the GPU; with `sums`, the checksum of
  /// every run, made there.
  Task<Result<std::vector<Checksum>>> pull(Slot& slot, std::span<const cuda::HostRun> from,
                                           bool sums);
  /// What lies in the slot's memory on the GPU -> pieces of the GPU's memory.
  Task<Result<>> spread(Slot& slot, std::span<const cuda::DevicePiece> to);
  /// Pieces of the GPU's memory -> the slot's memory there, and the checksums of blocks in it.
  /// Without pieces: of what lies there. Without blocks: none.
  Task<Result<std::vector<Checksum>>> hash(Slot& slot, std::span<const cuda::DevicePiece> from,
                                           std::span<const cuda::StagedBlock> blocks);

 private:
  DeviceLane(Loop& loop, std::shared_ptr<const cuda::Device> device,
             std::unique_ptr<cuda::Staging> staging);
  void give_back(cuda::StagingSlot* slot) noexcept;
  /// Null if the fabric has not registered it.
  [[nodiscard]] const Region* region_of(const cuda::StagingSlot* slot) const noexcept;
  void wake_next() noexcept;
  [[nodiscard]] Bell& bell_of(const Slot& slot) { return *bells_.at(slot.slot_); }
  Task<Result<>> landed(Slot& slot);

  Loop& loop_;
  std::shared_ptr<const cuda::Device> device_;
  /// One a slot, made when it is first used. The driver holds pointers to them: they go last.
  std::map<const cuda::StagingSlot*, std::shared_ptr<Bell>> bells_;
  std::unique_ptr<cuda::Staging> staging_;
  std::map<const cuda::StagingSlot*, std::unique_ptr<Region>> regions_;  ///< go before the slots
  const std::size_t slots_;
  bool straight_ = false;
  std::list<Signal*> waiting_;  ///< for a slot
};

}  // namespace membrain
