#include "transport/nccl/block_broadcast.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace membrain::nccl {

namespace {

constexpr std::uint64_t kState = cuda::DeviceHasher::kStateBytes;
constexpr std::uint64_t kHeaderBytes = BlockBroadcast::kMaxBlocks * kState;

/// Hashing wants addresses that are multiples of 16.
std::uint64_t padded(std::uint64_t bytes) noexcept {
  return (bytes + 15) / 16 * 16;
}

}  // namespace

std::uint32_t BlockBroadcast::most_blocks(std::uint64_t chunk_bytes, std::uint64_t block_bytes,
                                          std::size_t pieces) noexcept {
  if (block_bytes < kMinBlockBytes || pieces == 0) return 0;
  return static_cast<std::uint32_t>(
      std::min({chunk_bytes / padded(block_bytes),
                std::uint64_t{cuda::ChunkTable::kMaxChunks / pieces}, std::uint64_t{kMaxBlocks}}));
}

Result<BlockBroadcast::Half> BlockBroadcast::make_half(
    const std::shared_ptr<const cuda::Device>& device, std::uint64_t chunk_bytes) {
  auto bytes = cuda::DeviceBuffer::allocate(device, kHeaderBytes + chunk_bytes);
  if (!bytes) return fail(bytes.error());
  auto said = cuda::PinnedBuffer::allocate(device, kHeaderBytes);
  if (!said) return fail(said.error());
  auto table = cuda::ChunkTable::create(device);
  if (!table) return fail(table.error());
  auto hasher = cuda::DeviceHasher::create(device, chunk_bytes);
  if (!hasher) return fail(hasher.error());
  auto mark = cuda::Event::create(device);
  if (!mark) return fail(mark.error());
  return Half{std::move(*bytes), std::move(*said), std::move(*table), std::move(*hasher),
              std::move(*mark)};
}

Result<std::unique_ptr<BlockBroadcast>> BlockBroadcast::create(
    std::shared_ptr<const cuda::Device> device, std::uint64_t chunk_bytes) {
  auto pages = cuda::Stream::create(device);
  if (!pages) return fail(pages.error());
  auto wire = cuda::Stream::create(device);
  if (!wire) return fail(wire.error());
  std::unique_ptr<BlockBroadcast> made(new BlockBroadcast(std::move(*pages), std::move(*wire)));
  for (int i = 0; i < 2; ++i) {
    Result<Half> half = make_half(device, chunk_bytes);
    if (!half) return fail(half.error());
    made->halves_.push_back(std::move(*half));
  }
  return made;
}

cuda::Address BlockBroadcast::place(const Half& half, const BlockSet& set, std::uint32_t i) {
  return half.bytes.address() + set.chunk_blocks * kState + i * padded(set.block_bytes);
}

Result<> BlockBroadcast::run(Communicator& communicator, const BlockSet& set, Patience& patience,
                             PageGate& gate, std::vector<bool>& right) {
  right.assign(set.blocks, false);
  Run run{communicator, set, patience, gate, right};
  return communicator.rank() == set.root ? send_all(run) : take_all(run);
}

/// Up to two chunks are on the wire while the next one is filled.
Result<> BlockBroadcast::send_all(Run& run) {
  const std::uint32_t chunks = run.chunks();
  for (std::uint32_t i = 0; i < chunks + 2; ++i) {
    Half& half = halves_[i % 2];
    if (i >= 2) {
      const Result<> sent = run.communicator.reached(half.mark, run.patience);
      if (!sent) return sent;
      const Chunk chunk = run.chunk(i - 2);
      std::fill_n(run.right.begin() + chunk.first, chunk.count, true);
    }
    if (i >= chunks) continue;
    Result<> done = fill(run, half, run.chunk(i));
    if (done) done = broadcast(run, half, run.chunk(i));
    if (done) done = half.mark.record(wire_);
    if (!done) return done;
  }
  return {};
}

/// One chunk is on the wire while the one before is taken.
Result<> BlockBroadcast::take_all(Run& run) {
  const std::uint32_t chunks = run.chunks();
  for (std::uint32_t i = 0; i < chunks + 1; ++i) {
    Half& half = halves_[i % 2];
    if (i < chunks) {
      const Chunk chunk = run.chunk(i);
      Result<> done = broadcast(run, half, chunk);
      if (done) done = hash(run, half, chunk, wire_);
      if (done) done = wire_.copy(half.said.address(), half.bytes.address(), chunk.count * kState);
      if (done) done = half.mark.record(wire_);
      if (!done) return done;
    }
    if (i == 0) continue;
    Half& last = halves_[(i - 1) % 2];
    Result<> done = run.communicator.reached(last.mark, run.patience);
    if (done) done = take(run, last, run.chunk(i - 1));
    if (!done) return done;
  }
  return {};
}

Result<> BlockBroadcast::broadcast(const Run& run, Half& half, Chunk chunk) {
  const std::uint64_t bytes = place(half, run.set, chunk.count) - half.bytes.address();
  return run.communicator.broadcast(half.bytes.address(), bytes, run.set.root, wire_, run.patience);
}

/// The root's pages into the buffer, with what its hasher says of them.
Result<> BlockBroadcast::fill(const Run& run, Half& half, Chunk chunk) {
  if (!run.gate.enter()) return fail(Errc::cancelled, "the broadcast was stopped");
  Result<> done = move(run, half, chunk, Way::out_of_pages, nullptr);
  const Result<> moved = pages_.synchronize();
  run.gate.leave();
  if (done) done = moved;
  if (done) done = hash(run, half, chunk, pages_);
  if (done) {
    done = pages_.copy(half.bytes.address(), half.hasher.states(), chunk.count * kState);
  }
  const Result<> hashed = pages_.synchronize();
  return done ? hashed : done;
}

/// What came right into the pages.
Result<> BlockBroadcast::take(const Run& run, Half& half, Chunk chunk) {
  std::vector<bool> same(chunk.count);
  const std::span<const std::byte> here = half.hasher.host_states();
  const std::span<const std::byte> said = half.said.bytes();
  for (std::uint32_t i = 0; i < chunk.count; ++i) {
    same[i] = std::memcmp(&here[i * kState], &said[i * kState], kState) == 0;
  }
  if (std::ranges::find(same, true) == same.end()) return {};
  if (!run.gate.enter()) return fail(Errc::cancelled, "the broadcast was stopped");
  Result<> done = move(run, half, chunk, Way::into_pages, &same);
  const Result<> moved = pages_.synchronize();
  run.gate.leave();
  if (done) done = moved;
  if (done) std::copy(same.begin(), same.end(), run.right.begin() + chunk.first);
  return done;
}

/// Queues copies between the pages and the buffer; of `only` those that are set.
Result<> BlockBroadcast::move(const Run& run, Half& half, Chunk chunk, Way way,
                              const std::vector<bool>* only) {
  half.table.clear();
  for (std::uint32_t i = 0; i < chunk.count; ++i) {
    if (only != nullptr && !(*only)[i]) continue;
    pieces_.clear();
    run.set.pieces_of(chunk.first + i, pieces_);
    cuda::Address staged = place(half, run.set, i);
    for (const cuda::DevicePiece& piece : pieces_) {
      const bool in = way == Way::into_pages;
      if (!half.table.add(in ? piece.address : staged, in ? staged : piece.address, piece.bytes)) {
        return fail(Errc::invalid_argument, "too many pieces");
      }
      staged += piece.bytes;
    }
  }
  return half.table.launch(pages_);
}

Result<> BlockBroadcast::hash(const Run& run, Half& half, Chunk chunk, cuda::Stream& stream) {
  inputs_.clear();
  for (std::uint32_t i = 0; i < chunk.count; ++i) {
    inputs_.push_back({place(half, run.set, i), run.set.block_bytes});
  }
  return half.hasher.start(stream, inputs_);
}

}  // namespace membrain::nccl
