// How blocks get between a GPU's paged cache and the host: through pinned memory, in one copy each
// way, with one kernel that gathers or scatters the pieces.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "transport/cuda/checksum.h"
#include "transport/cuda/chunk_table.h"
#include "transport/cuda/memory.h"
#include "transport/cuda/stream.h"

namespace membrain::cuda {

/// Bytes of a block on a device. Pieces of one block follow each other in it.
struct DevicePiece {
  Address address = 0;  ///< 0: so many bytes of the staging memory are passed over
  std::uint64_t bytes = 0;
};

/// Pieces that follow each other in memory, joined.
struct DeviceRun {
  Address address = 0;
  std::uint64_t bytes = 0;
  std::uint64_t staged_at = 0;  ///< bytes into the staging memory
};

/// Bytes of the host's, and where in the slot's memory on the device they go.
struct HostRun {
  Address address = 0;
  std::uint64_t bytes = 0;
  std::uint64_t staged_at = 0;
  std::uint64_t first_bytes = bytes;  ///< before a seam: where the rest was page-locked by itself
};

/// A block in the slot's memory on the device.
struct StagedBlock {
  std::uint64_t staged_at = 0;
  std::uint64_t bytes = 0;
};

/// Room for one transfer under way: pinned memory, as much on the device, and a stream.
///
/// Bytes lie in `host()` in the order of the pieces. One thing at a time: `gather`, `scatter`,
/// `pull`, `spread` or `hash` queues the work, `landed` says that it is over, and only then
/// anything else may be done with the slot. Runs of pieces that follow each other in memory are
/// moved as one; if there is only one, the kernel is spared.
///
/// Threads  One at a time.
class StagingSlot {
 public:
  static Result<std::unique_ptr<StagingSlot>> create(std::shared_ptr<const Device> device,
                                                     std::size_t bytes);

  [[nodiscard]] std::span<std::byte> host() const noexcept { return host_.bytes(); }
  /// The slot's memory on the device: for others (a network) while nothing of ours is queued.
  [[nodiscard]] std::span<std::byte> device() const noexcept {
    return {reinterpret_cast<std::byte*>(device_.address()), device_.size()};
  }

  /// Queues: device pieces -> `host()`. With `after`, not before that event: the engine's stream is
  /// not held up. `call(data)` as Stream::then. `invalid_argument` for more than fits. After any
  /// failure nothing is under way.
  Result<> gather(std::span<const DevicePiece> from, RawEvent after, HostCall call, void* data);
  /// Queues: `host()` -> device pieces.
  Result<> scatter(std::span<const DevicePiece> to, HostCall call, void* data);
  /// Queues: page-locked memory of somebody else's -> the slot's memory on the device, not by way
  /// of `host()`. With `sums`, each run is hashed there: then it is as long and as aligned as the
  /// hasher wants it (DeviceHasher).
  Result<> pull(std::span<const HostRun> from, bool sums, HostCall call, void* data);
  /// Queues: device pieces -> the slot's memory on the device, and the hashing of `blocks` there,
  /// which are as the hasher wants them. Nothing comes to the host but the checksums. Without
  /// pieces, what lies there already is hashed; without blocks, nothing is.
  Result<> hash(std::span<const DevicePiece> from, std::span<const StagedBlock> blocks,
                HostCall call, void* data);
  /// Of what was pulled or hashed, in its order, once that has landed.
  [[nodiscard]] std::vector<Checksum> sums() const { return hasher_.finish(); }
  /// Queues: what lies in the slot's memory on the device -> device pieces.
  Result<> spread(std::span<const DevicePiece> to, HostCall call, void* data);
  /// True when what was queued is over; a failure when the device has failed. Then, too, nothing is
  /// under way.
  [[nodiscard]] Result<bool> landed() const { return mark_.done(); }
  /// Blocks until then.
  Result<> synchronize() { return stream_.synchronize(); }

 private:
  StagingSlot(PinnedBuffer host, DeviceBuffer device, ChunkTable table, Stream stream, Event mark,
              DeviceHasher hasher) noexcept
      : host_(std::move(host)),
        device_(std::move(device)),
        table_(std::move(table)),
        stream_(std::move(stream)),
        mark_(std::move(mark)),
        hasher_(std::move(hasher)) {}

  /// Into the device's pieces and out of them: by way of the host, and of the device alone.
  enum class Way : std::uint8_t { in, out, spread, collect };
  Result<> plan(std::span<const DevicePiece> pieces, Way way);
  Result<> queue(Way way, RawEvent after);
  Result<> queue_pull(std::span<const HostRun> from, bool sums);
  Result<> queue_hash(std::span<const StagedBlock> blocks);
  Result<> finish(Result<> queued, HostCall call, void* data);

  PinnedBuffer host_;
  DeviceBuffer device_;
  ChunkTable table_;
  Stream stream_;
  Event mark_;
  DeviceHasher hasher_;
  std::vector<DeviceRun> runs_;  // of the transfer under way
};

/// What is to be moved of `pieces`: what is passed over is in no run.
void join_runs(std::span<const DevicePiece> pieces, std::vector<DeviceRun>& runs);

/// A few slots for all transfers of a device.
///
/// Threads  One at a time.
class Staging {
 public:
  static Result<std::unique_ptr<Staging>> create(std::shared_ptr<const Device> device,
                                                 std::size_t slots, std::size_t slot_bytes);

  [[nodiscard]] std::size_t slot_bytes() const noexcept { return slot_bytes_; }
  [[nodiscard]] std::size_t free_slots() const noexcept { return free_.size(); }
  /// A slot for the caller alone, until he gives it back; null if all are taken.
  [[nodiscard]] StagingSlot* take() noexcept;
  void give_back(StagingSlot* slot) noexcept { free_.push_back(slot); }

 private:
  explicit Staging(std::size_t slot_bytes) noexcept : slot_bytes_(slot_bytes) {}

  std::size_t slot_bytes_;
  std::vector<std::unique_ptr<StagingSlot>> slots_;
  std::vector<StagingSlot*> free_;
};

}  // namespace membrain::cuda
