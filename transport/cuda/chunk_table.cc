#include "transport/cuda/chunk_table.h"

#include <algorithm>

#include "transport/cuda/kernels.h"

namespace membrain::cuda {

using kernel::Chunk;

Result<ChunkTable> ChunkTable::create(std::shared_ptr<const Device> device) {
  constexpr std::size_t kBytes = kMaxChunks * sizeof(Chunk);
  Result<PinnedBuffer> host = PinnedBuffer::allocate(device, kBytes);
  if (!host) return fail(host.error());
  Result<DeviceBuffer> there = DeviceBuffer::allocate(std::move(device), kBytes);
  if (!there) return fail(there.error());
  return ChunkTable(std::move(*host), std::move(*there));
}

std::size_t ChunkTable::chunks_of(std::uint64_t bytes) noexcept {
  return (bytes + kernel::kChunkBytes - 1) / kernel::kChunkBytes;
}

bool ChunkTable::add(Address to, Address from, std::uint64_t bytes) noexcept {
  if (chunks_of(bytes) > kMaxChunks - count_) return false;
  auto* const table = reinterpret_cast<Chunk*>(host_.bytes().data());
  for (std::uint64_t at = 0; at < bytes; at += kernel::kChunkBytes) {
    const std::uint64_t size = std::min<std::uint64_t>(kernel::kChunkBytes, bytes - at);
    table[count_++] = {to + at, from + at, size};
  }
  return true;
}

Result<> ChunkTable::launch(Stream& stream) {
  if (count_ == 0) return {};
  Result<> told = stream.copy(device_.address(), host_.address(), count_ * sizeof(Chunk));
  if (!told) return told;
  Address table = device_.address();
  void* arguments[] = {&table};
  return stream.launch(stream.device().kernels().copy_chunks, static_cast<std::uint32_t>(count_), 1,
                       kernel::kCopyThreads, arguments);
}

}  // namespace membrain::cuda
