#include "transport/cuda/staging.h"

namespace membrain::cuda {

Result<std::unique_ptr<StagingSlot>> StagingSlot::create(std::shared_ptr<const Device> device,
                                                         std::size_t bytes) {
  Result<PinnedBuffer> host = PinnedBuffer::allocate(device, bytes);
  if (!host) return fail(host.error());
  Result<DeviceBuffer> there = DeviceBuffer::allocate(device, bytes);
  if (!there) return fail(there.error());
  Result<ChunkTable> table = ChunkTable::create(device);
  if (!table) return fail(table.error());
  Result<Stream> stream = Stream::create(device);
  if (!stream) return fail(stream.error());
  Result<Event> mark = Event::create(std::move(device));
  if (!mark) return fail(mark.error());
  return std::unique_ptr<StagingSlot>(new StagingSlot(std::move(*host), std::move(*there),
                                                      std::move(*table), std::move(*stream),
                                                      std::move(*mark)));
}

void join_runs(std::span<const DevicePiece> pieces, std::vector<DeviceRun>& runs) {
  runs.clear();
  std::uint64_t staged_at = 0;
  bool joins = false;
  for (const DevicePiece& piece : pieces) {
    if (piece.address == 0) {
      joins = false;
    } else if (joins && runs.back().address + runs.back().bytes == piece.address) {
      runs.back().bytes += piece.bytes;
    } else {
      runs.push_back({piece.address, piece.bytes, staged_at});
      joins = true;
    }
    staged_at += piece.bytes;
  }
}

/// Joins the pieces, and fills the table where one is needed.
Result<> StagingSlot::plan(std::span<const DevicePiece> pieces, Way way) {
  std::uint64_t left = host().size();
  for (const DevicePiece& piece : pieces) {
    if (piece.bytes > left) {
      return fail(Errc::invalid_argument, "more bytes than a staging slot has");
    }
    left -= piece.bytes;
  }
  join_runs(pieces, runs_);
  table_.clear();
  if (runs_.empty()) return fail(Errc::invalid_argument, "no bytes to move");
  if (runs_.size() == 1) return {};  // the copy alone will do
  for (const DeviceRun& run : runs_) {
    const Address staged = device_.address() + run.staged_at;
    const Address to = way == Way::in ? run.address : staged;
    const Address from = way == Way::in ? staged : run.address;
    if (!table_.add(to, from, run.bytes)) return fail(Errc::invalid_argument, "too many pieces");
  }
  return {};
}

Result<> StagingSlot::gather(std::span<const DevicePiece> from, RawEvent after, HostCall call,
                             void* data) {
  if (const Result<> planned = plan(from, Way::out); !planned) return planned;
  Result<> queued = queue(Way::out, after, call, data);
  // What was queued before the failure may still run.
  if (!queued) static_cast<void>(stream_.synchronize());
  return queued;
}

Result<> StagingSlot::scatter(std::span<const DevicePiece> to, HostCall call, void* data) {
  if (const Result<> planned = plan(to, Way::in); !planned) return planned;
  Result<> queued = queue(Way::in, nullptr, call, data);
  if (!queued) static_cast<void>(stream_.synchronize());
  return queued;
}

Result<> StagingSlot::queue(Way way, RawEvent after, HostCall call, void* data) {
  const DeviceRun& first = runs_.front();
  const Address host = host_.address() + first.staged_at;
  const Address staged = device_.address() + first.staged_at;
  const std::uint64_t bytes = runs_.back().staged_at + runs_.back().bytes - first.staged_at;
  Result<> done;
  if (after != nullptr) done = stream_.wait(after);
  if (done && runs_.size() == 1) {
    done = way == Way::in ? stream_.copy(first.address, host, bytes)
                          : stream_.copy(host, first.address, bytes);
  } else if (done && way == Way::in) {
    done = stream_.copy(staged, host, bytes);
    if (done) done = table_.launch(stream_);
  } else if (done) {
    done = table_.launch(stream_);
    if (done) done = stream_.copy(host, staged, bytes);
  }
  if (done) done = mark_.record(stream_);
  // Last: when it is called, nothing of this transfer is touched any more.
  if (done) done = stream_.then(call, data);
  return done;
}

Result<std::unique_ptr<Staging>> Staging::create(std::shared_ptr<const Device> device,
                                                 std::size_t slots, std::size_t slot_bytes) {
  std::unique_ptr<Staging> staging(new Staging(slot_bytes));
  for (std::size_t i = 0; i < slots; ++i) {
    Result<std::unique_ptr<StagingSlot>> slot = StagingSlot::create(device, slot_bytes);
    if (!slot) return fail(slot.error());
    staging->free_.push_back(slot->get());
    staging->slots_.push_back(std::move(*slot));
  }
  return staging;
}

StagingSlot* Staging::take() noexcept {
  if (free_.empty()) return nullptr;
  StagingSlot* const slot = free_.back();
  free_.pop_back();
  return slot;
}

}  // namespace membrain::cuda
