#include "transport/cuda/staging.h"

#include <utility>

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
  Result<Event> mark = Event::create(device);
  if (!mark) return fail(mark.error());
  Result<DeviceHasher> hasher = DeviceHasher::create(std::move(device), bytes);
  if (!hasher) return fail(hasher.error());
  return std::unique_ptr<StagingSlot>(new StagingSlot(std::move(*host), std::move(*there),
                                                      std::move(*table), std::move(*stream),
                                                      std::move(*mark), std::move(*hasher)));
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
  if (runs_.size() == 1) return {};  // a copy alone will do
  for (const DeviceRun& run : runs_) {
    const Address staged = device_.address() + run.staged_at;
    const bool to_slot = way == Way::out || way == Way::collect;
    const Address to = to_slot ? staged : run.address;
    const Address from = to_slot ? run.address : staged;
    if (!table_.add(to, from, run.bytes)) return fail(Errc::invalid_argument, "too many pieces");
  }
  return {};
}

Result<> StagingSlot::gather(std::span<const DevicePiece> from, RawEvent after, HostCall call,
                             void* data) {
  if (const Result<> planned = plan(from, Way::out); !planned) return planned;
  return finish(queue(Way::out, after), call, data);
}

Result<> StagingSlot::scatter(std::span<const DevicePiece> to, HostCall call, void* data) {
  if (const Result<> planned = plan(to, Way::in); !planned) return planned;
  return finish(queue(Way::in, nullptr), call, data);
}

Result<> StagingSlot::spread(std::span<const DevicePiece> to, HostCall call, void* data) {
  if (const Result<> planned = plan(to, Way::spread); !planned) return planned;
  return finish(queue(Way::spread, nullptr), call, data);
}

Result<> StagingSlot::pull(std::span<const HostRun> from, bool sums, HostCall call, void* data) {
  if (from.empty()) return fail(Errc::invalid_argument, "no bytes to move");
  for (const HostRun& run : from) {
    if (run.staged_at > device_.size() || run.bytes > device_.size() - run.staged_at ||
        run.first_bytes > run.bytes) {
      return fail(Errc::invalid_argument, "more bytes than a staging slot has");
    }
  }
  return finish(queue_pull(from, sums), call, data);
}

Result<> StagingSlot::hash(std::span<const DevicePiece> from, std::span<const StagedBlock> blocks,
                           HostCall call, void* data) {
  if (from.empty() && blocks.empty()) return fail(Errc::invalid_argument, "no bytes to move");
  for (const StagedBlock& block : blocks) {
    if (block.staged_at > device_.size() || block.bytes > device_.size() - block.staged_at) {
      return fail(Errc::invalid_argument, "more bytes than a staging slot has");
    }
  }
  Result<> queued = from.empty() ? Result<>{} : plan(from, Way::collect);
  if (!queued) return queued;
  if (!from.empty()) queued = queue(Way::collect, nullptr);
  if (queued && !blocks.empty()) queued = queue_hash(blocks);
  return finish(queued, call, data);
}

Result<> StagingSlot::queue(Way way, RawEvent after) {
  const DeviceRun& first = runs_.front();
  const Address host = host_.address() + first.staged_at;
  const Address staged = device_.address() + first.staged_at;
  const std::uint64_t bytes = runs_.back().staged_at + runs_.back().bytes - first.staged_at;
  const bool alone = runs_.size() == 1;
  Result<> done;
  if (after != nullptr) done = stream_.wait(after);
  if (!done) return done;
  switch (way) {
    case Way::in:
      if (alone) return stream_.copy(first.address, host, bytes);
      done = stream_.copy(staged, host, bytes);
      return done ? table_.launch(stream_) : done;
    case Way::out:
      if (alone) return stream_.copy(host, first.address, bytes);
      done = table_.launch(stream_);
      return done ? stream_.copy(host, staged, bytes) : done;
    case Way::spread:
      return alone ? stream_.copy(first.address, staged, bytes) : table_.launch(stream_);
    case Way::collect:
      return alone ? stream_.copy(staged, first.address, bytes) : table_.launch(stream_);
  }
  return done;
}

Result<> StagingSlot::queue_pull(std::span<const HostRun> from, bool sums) {
  std::vector<StagedBlock> blocks;
  for (const HostRun& run : from) {
    blocks.push_back({run.staged_at, run.bytes});
    const Address to = device_.address() + run.staged_at;
    const std::uint64_t first = run.first_bytes;
    Result<> queued = first != 0 ? stream_.copy(to, run.address, first) : Result<>{};
    if (queued && first != run.bytes) {
      queued = stream_.copy(to + first, run.address + first, run.bytes - first);
    }
    if (!queued) return queued;
  }
  return sums ? queue_hash(blocks) : Result<>{};
}

Result<> StagingSlot::queue_hash(std::span<const StagedBlock> blocks) {
  std::vector<DeviceBytes> inputs;
  inputs.reserve(blocks.size());
  for (const StagedBlock& block : blocks) {
    inputs.push_back({device_.address() + block.staged_at, block.bytes});
  }
  return hasher_.start(stream_, inputs);
}

/// After what was queued comes the mark, and the call: when it is made, nothing of this transfer is
/// touched any more.
Result<> StagingSlot::finish(Result<> queued, HostCall call, void* data) {
  Result<> done = std::move(queued);
  if (done) done = mark_.record(stream_);
  if (done) done = stream_.then(call, data);
  // What was queued before the failure may still run.
  if (!done) static_cast<void>(stream_.synchronize());
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
