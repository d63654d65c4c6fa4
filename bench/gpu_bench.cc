// What moving blocks to, from and on a GPU costs, beside the plain copies that are its limit.
//
//   copy/to_gpu, copy/from_gpu    one plain copy of pinned memory: the limit of `scatter`, `gather`
//   scatter/PIECE, gather/PIECE   the same bytes as pieces of a paged cache, by a staging slot
//   pull/PIECE                    the same out of page-locked memory, hashed on the device
//   hashed/PIECE                  the same with the host's copy and hash before `scatter`
//   copy/on_gpu, chunks/PIECE     on the device alone: a plain copy, and the kernel
//   checksum/BLOCK                XXH3-128 on the device
//
// With another process on the same GPU, 32 blocks of 2 MiB in pieces of 32 KiB (gpu_between.h):
//
//   copy/ipc                      a plain copy from its memory: the limit of `peer`
//   peer/PIECE                    a fetch of what it shares; straight with a UCX that knows CUDA
//   fetch/host, staged/PIECE      a fetch from its node, to the host's memory, and to the GPU
//   nccl/PIECE                    a broadcast from it
//
// Bandwidth counts each byte once. --driver=LIBRARY instead of libcuda.so.1; clients, and so
// `peer`, `fetch` and `staged`, take no other, but look for it in LD_LIBRARY_PATH.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/copy.h"
#include "bench/gpu_between.h"
#include "transport/cuda/checksum.h"
#include "transport/cuda/staging.h"

namespace membrain {
namespace {

using cuda::ChunkTable;
using cuda::DeviceBuffer;
using cuda::DeviceBytes;
using cuda::DeviceHasher;
using cuda::DevicePiece;
using cuda::PinnedBuffer;
using cuda::StagingSlot;
using cuda::Stream;

constexpr std::size_t kBlockBytes = 2 << 20;
constexpr std::size_t kOnGpuBytes = 64 << 20;

std::string library = "libcuda.so.1";

struct Bench {
  std::shared_ptr<const cuda::Device> device;
  std::unique_ptr<StagingSlot> slot;
  std::unique_ptr<PinnedBuffer> arena;  ///< a node's, so to say
  std::unique_ptr<DeviceBuffer> from;
  std::unique_ptr<DeviceBuffer> to;
  std::unique_ptr<Stream> stream;
};

Bench& bench() {
  static Bench made = [] {
    Bench bench;
    const auto driver = cuda::Driver::load(library);
    bench.device = cuda::Device::open(driver.value(), 0).value();
    bench.slot = StagingSlot::create(bench.device, kBlockBytes).value();
    bench.arena =
        std::make_unique<PinnedBuffer>(PinnedBuffer::allocate(bench.device, kBlockBytes).value());
    const auto room = [&] {
      return std::make_unique<DeviceBuffer>(
          DeviceBuffer::allocate(bench.device, 2 * kOnGpuBytes).value());
    };
    bench.from = room();
    bench.to = room();
    bench.stream = std::make_unique<Stream>(Stream::create(bench.device).value());
    return bench;
  }();
  return made;
}

void count_bytes(benchmark::State& state, std::size_t each) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(each));
}

/// Ends a row at the first failure.
bool went_well(benchmark::State& state, const Result<>& outcome) {
  if (outcome) return true;
  state.SkipWithError(std::string(outcome.error().context).c_str());
  return false;
}

void copy_whole(benchmark::State& state, bool to_gpu) {
  Bench& on = bench();
  const auto host = reinterpret_cast<cuda::Address>(on.slot->host().data());
  const cuda::Address there = on.to->address();
  for (auto _ : state) {
    Result<> done = on.stream->copy(to_gpu ? there : host, to_gpu ? host : there, kBlockBytes);
    if (done) done = on.stream->synchronize();
    if (!went_well(state, done)) break;
  }
  count_bytes(state, kBlockBytes);
}

/// Every second piece of a cache.
std::vector<DevicePiece> pieces_of(const DeviceBuffer& cache, std::size_t piece) {
  std::vector<DevicePiece> pieces;
  for (std::size_t at = 0; at < kBlockBytes; at += piece) {
    pieces.push_back({cache.address() + 2 * at, piece});
  }
  return pieces;
}

void move_pieces(benchmark::State& state, bool to_gpu, std::size_t piece) {
  Bench& on = bench();
  const std::vector<DevicePiece> pieces = pieces_of(*on.to, piece);
  const auto nothing = [](void*) {};
  for (auto _ : state) {
    Result<> done = to_gpu ? on.slot->scatter(pieces, nothing, nullptr)
                           : on.slot->gather(pieces, nullptr, nothing, nullptr);
    if (done) done = on.slot->synchronize();
    if (!went_well(state, done)) break;
  }
  count_bytes(state, kBlockBytes);
}

/// A hit on the same host, as the GPU does it by itself, or as the host does it.
void move_hit(benchmark::State& state, bool by_gpu, std::size_t piece) {
  Bench& on = bench();
  const std::vector<DevicePiece> pieces = pieces_of(*on.to, piece);
  const cuda::HostRun run{on.arena->address(), kBlockBytes, 0};
  const auto nothing = [](void*) {};
  for (auto _ : state) {
    Result<> done;
    if (by_gpu) {
      done = on.slot->pull({&run, 1}, true, nothing, nullptr);
      if (done) done = on.slot->synchronize();
      if (done) benchmark::DoNotOptimize(on.slot->sums());
      if (done) done = on.slot->spread(pieces, nothing, nullptr);
    } else {
      HashedCopy copy(copy_way(kBlockBytes));
      copy.add(on.slot->host().data(), on.arena->bytes());
      benchmark::DoNotOptimize(copy.finish());
      fence_streams();
      done = on.slot->scatter(pieces, nothing, nullptr);
    }
    if (done) done = on.slot->synchronize();
    if (!went_well(state, done)) break;
  }
  count_bytes(state, kBlockBytes);
}

void copy_on_gpu(benchmark::State& state) {
  Bench& on = bench();
  for (auto _ : state) {
    Result<> done = on.stream->copy(on.to->address(), on.from->address(), kOnGpuBytes);
    if (done) done = on.stream->synchronize();
    if (!went_well(state, done)) break;
  }
  count_bytes(state, kOnGpuBytes);
}

void move_chunks(benchmark::State& state, std::size_t piece) {
  Bench& on = bench();
  ChunkTable table = ChunkTable::create(on.device).value();
  for (std::size_t at = 0; at < kOnGpuBytes; at += piece) {
    if (!table.add(on.to->address() + 2 * at, on.from->address() + at, piece)) {
      return state.SkipWithError("too many pieces for one table");
    }
  }
  for (auto _ : state) {
    Result<> done = table.launch(*on.stream);
    if (done) done = on.stream->synchronize();
    if (!went_well(state, done)) break;
  }
  count_bytes(state, kOnGpuBytes);
}

void hash_blocks(benchmark::State& state, std::size_t block) {
  Bench& on = bench();
  DeviceHasher hasher = DeviceHasher::create(on.device, kOnGpuBytes).value();
  std::vector<DeviceBytes> blocks;
  for (std::size_t at = 0; at < kOnGpuBytes; at += block) {
    blocks.push_back({on.from->address() + at, block});
  }
  for (auto _ : state) {
    Result<> done = hasher.start(*on.stream, blocks);
    if (done) done = on.stream->synchronize();
    if (!went_well(state, done)) break;
    benchmark::DoNotOptimize(hasher.finish());
  }
  count_bytes(state, kOnGpuBytes);
}

template <class Row>
void add_row(const std::string& name, Row row) {
  benchmark::RegisterBenchmark(name.c_str(), row)->UseRealTime();
}

void add_rows() {
  add_row("copy/to_gpu", [](benchmark::State& state) { copy_whole(state, true); });
  add_row("copy/from_gpu", [](benchmark::State& state) { copy_whole(state, false); });
  for (const std::size_t piece : {4096U, 32768U, 262144U}) {
    const std::string size = std::to_string(piece);
    add_row("scatter/" + size, [=](benchmark::State& state) { move_pieces(state, true, piece); });
    add_row("gather/" + size, [=](benchmark::State& state) { move_pieces(state, false, piece); });
    add_row("pull/" + size, [=](benchmark::State& state) { move_hit(state, true, piece); });
    add_row("hashed/" + size, [=](benchmark::State& state) { move_hit(state, false, piece); });
  }
  add_row("copy/on_gpu", [](benchmark::State& state) { copy_on_gpu(state); });
  for (const std::size_t piece : {4096U, 32768U, 262144U}) {
    add_row("chunks/" + std::to_string(piece),
            [=](benchmark::State& state) { move_chunks(state, piece); });
  }
  for (const std::size_t block : {65536U, 1U << 20, 2U << 20}) {
    add_row("checksum/" + std::to_string(block),
            [=](benchmark::State& state) { hash_blocks(state, block); });
  }
}

/// Takes `--driver=` out of the arguments.
void take_driver(int& count, char** arguments) {
  constexpr std::string_view kOption = "--driver=";
  int kept = 0;
  for (int i = 0; i < count; ++i) {
    const std::string_view argument = arguments[i];
    if (argument.starts_with(kOption)) {
      library = argument.substr(kOption.size());
    } else {
      arguments[kept++] = arguments[i];
    }
  }
  count = kept;
}

}  // namespace
}  // namespace membrain

int main(int count, char** arguments) {
  membrain::take_driver(count, arguments);
  ::setenv("NCCL_HOSTID", "gpu-bench", 0);  // the neighbour has another, on one GPU
  membrain::gpu_bench::GpuNeighbour neighbour(membrain::library);
  benchmark::Initialize(&count, arguments);
  if (benchmark::ReportUnrecognizedArguments(count, arguments)) return 2;
  const auto driver = membrain::cuda::Driver::load(membrain::library);
  const auto device =
      driver ? membrain::cuda::Device::open(*driver, 0) : membrain::fail(driver.error());
  if (!device) {
    std::fprintf(stderr, "gpu_bench: %s\n", std::string(device.error().context).c_str());
    return 1;
  }
  benchmark::AddCustomContext("gpu", (*device)->facts().name);
  membrain::add_rows();
  membrain::gpu_bench::add_between_rows(neighbour, membrain::library);
  benchmark::RunSpecifiedBenchmarks();
  membrain::gpu_bench::end_between_rows();
  return 0;
}
