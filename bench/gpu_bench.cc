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
// The exit status is 77 where there is no driver or no GPU, and 1 for a GPU that does not work.
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
  static Result<std::unique_ptr<Bench>> open(std::shared_ptr<const cuda::Device> device);

  std::shared_ptr<const cuda::Device> device;
  std::unique_ptr<StagingSlot> slot;
  std::unique_ptr<PinnedBuffer> arena;  ///< a node's, so to say
  std::unique_ptr<DeviceBuffer> from;
  std::unique_ptr<DeviceBuffer> to;
  std::unique_ptr<Stream> stream;
};

Result<std::unique_ptr<Bench>> Bench::open(std::shared_ptr<const cuda::Device> device) {
  auto slot = StagingSlot::create(device, kBlockBytes);
  if (!slot) return fail(slot.error());
  auto arena = PinnedBuffer::allocate(device, kBlockBytes);
  if (!arena) return fail(arena.error());
  auto from = DeviceBuffer::allocate(device, 2 * kOnGpuBytes);
  if (!from) return fail(from.error());
  auto to = DeviceBuffer::allocate(device, 2 * kOnGpuBytes);
  if (!to) return fail(to.error());
  auto stream = Stream::create(device);
  if (!stream) return fail(stream.error());
  auto made = std::make_unique<Bench>();
  made->device = std::move(device);
  made->slot = std::move(*slot);
  made->arena = std::make_unique<PinnedBuffer>(std::move(*arena));
  made->from = std::make_unique<DeviceBuffer>(std::move(*from));
  made->to = std::make_unique<DeviceBuffer>(std::move(*to));
  made->stream = std::make_unique<Stream>(std::move(*stream));
  return made;
}

/// While `main` runs rows.
std::unique_ptr<Bench> opened;

Bench& bench() {
  return *opened;
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
  Result<ChunkTable> table = ChunkTable::create(on.device);
  if (!table) return state.SkipWithError("no table of pieces");
  for (std::size_t at = 0; at < kOnGpuBytes; at += piece) {
    if (!table->add(on.to->address() + 2 * at, on.from->address() + at, piece)) {
      return state.SkipWithError("too many pieces for one table");
    }
  }
  for (auto _ : state) {
    Result<> done = table->launch(*on.stream);
    if (done) done = on.stream->synchronize();
    if (!went_well(state, done)) break;
  }
  count_bytes(state, kOnGpuBytes);
}

void hash_blocks(benchmark::State& state, std::size_t block) {
  Bench& on = bench();
  Result<DeviceHasher> hasher = DeviceHasher::create(on.device, kOnGpuBytes);
  if (!hasher) return state.SkipWithError("no hasher");
  std::vector<DeviceBytes> blocks;
  for (std::size_t at = 0; at < kOnGpuBytes; at += block) {
    blocks.push_back({on.from->address() + at, block});
  }
  for (auto _ : state) {
    Result<> done = hasher->start(*on.stream, blocks);
    if (done) done = on.stream->synchronize();
    if (!went_well(state, done)) break;
    benchmark::DoNotOptimize(hasher->finish());
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

/// What `tools/gpu_check.sh` tells apart.
constexpr int kNoGpu = 77;
constexpr int kBroken = 1;

int end(int status, const std::string& why) {
  std::fprintf(stderr, "gpu_bench: %s\n", why.c_str());
  return status;
}

/// 0, or the exit status.
int open_bench() {
  const auto driver = cuda::Driver::load(library);
  if (!driver) {
    const Error& why = driver.error();
    return end(cuda::no_gpu(why) ? kNoGpu : kBroken, std::string(why.context));
  }
  const auto broken = [&](const Error& why) {
    std::string text(why.context);
    if (why.native != 0) text += ": " + std::string((*driver)->name(why.native));
    return end(kBroken, text);
  };
  auto device = cuda::Device::open(*driver, 0);
  if (!device) return broken(device.error());
  auto made = Bench::open(*device);
  if (!made) return broken(made.error());
  opened = std::move(*made);
  return 0;
}

}  // namespace
}  // namespace membrain

int main(int count, char** arguments) {
  membrain::take_driver(count, arguments);
  ::setenv("NCCL_HOSTID", "gpu-bench", 0);  // the neighbour has another, on one GPU
  membrain::gpu_bench::GpuNeighbour neighbour(membrain::library);
  benchmark::Initialize(&count, arguments);
  if (benchmark::ReportUnrecognizedArguments(count, arguments)) return 2;
  if (const int status = membrain::open_bench(); status != 0) return status;
  benchmark::AddCustomContext("gpu", membrain::bench().device->facts().name);
  membrain::add_rows();
  membrain::gpu_bench::add_between_rows(neighbour, membrain::library);
  benchmark::RunSpecifiedBenchmarks();
  membrain::gpu_bench::end_between_rows();
  membrain::opened.reset();
  return 0;
}
