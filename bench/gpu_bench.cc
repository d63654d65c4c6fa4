// What moving blocks to, from and on a GPU costs, beside the plain copies that are its limit.
//
//   copy/to_gpu, copy/from_gpu    plain copies of pinned memory: the limit of `scatter`, `gather`
//   scatter/PIECE, gather/PIECE   the same bytes as pieces of a paged cache, by staging slots
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
// What crosses the bus are blocks of 2 MiB, two at a time. On the device alone it is 512 MiB, or
// --on-gpu-mib=N, and no more than one launch takes: a GPU's cache holds a tenth of that.
//
// Bandwidth counts each byte once. --driver=LIBRARY instead of libcuda.so.1; clients, and so
// `peer`, `fetch` and `staged`, take no other, but look for it in LD_LIBRARY_PATH.
// The exit status is 77 where there is no driver or no GPU, and 1 for a GPU that does not work.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
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
using cuda::HostRegistration;
using cuda::StagingSlot;
using cuda::Stream;

constexpr std::size_t kBlockBytes = 2 << 20;
/// Blocks of one measurement that go over the bus: two are under way at a time, as in a fetch.
constexpr std::size_t kBatch = 16;
constexpr std::size_t kAtOnce = 2;

std::string library = "libcuda.so.1";
/// What the device alone moves, at most: many times a GPU's cache.
std::size_t on_gpu_bytes = std::size_t{512} << 20;

/// A node's, so to say: shared memory, page-locked as a client does it.
class Arena {
 public:
  static Result<std::unique_ptr<Arena>> open(const std::shared_ptr<const cuda::Device>& device) {
    constexpr std::size_t kBytes = kAtOnce * kBlockBytes;
    void* const memory =
        ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return fail(Errc::out_of_capacity, "no memory to share");
    std::unique_ptr<Arena> made(new Arena({static_cast<std::byte*>(memory), kBytes}));
    std::memset(memory, 1, kBytes);
    const bool read_only = device->facts().read_only_registration;
    if (read_only) static_cast<void>(::mprotect(memory, kBytes, PROT_READ));
    using Access = HostRegistration::Access;
    auto locked = HostRegistration::create(device, made->bytes_,
                                           read_only ? Access::read_only : Access::read_write);
    if (!locked) return fail(locked.error());
    made->locked_.emplace(std::move(*locked));
    return made;
  }
  ~Arena() {
    locked_.reset();
    ::munmap(bytes_.data(), bytes_.size());
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  [[nodiscard]] std::span<const std::byte> block(std::size_t number) const {
    return bytes_.subspan(number * kBlockBytes, kBlockBytes);
  }

 private:
  explicit Arena(std::span<std::byte> bytes) : bytes_(bytes) {}
  std::span<std::byte> bytes_;
  std::optional<HostRegistration> locked_;
};

struct Bench {
  static Result<std::unique_ptr<Bench>> open(std::shared_ptr<const cuda::Device> device);

  std::shared_ptr<const cuda::Device> device;
  std::unique_ptr<Arena> arena;
  std::unique_ptr<DeviceBuffer> from;
  std::unique_ptr<DeviceBuffer> to;
  std::vector<std::unique_ptr<StagingSlot>> slots;
  std::vector<std::unique_ptr<Stream>> streams;
};

Result<std::unique_ptr<Bench>> Bench::open(std::shared_ptr<const cuda::Device> device) {
  auto arena = Arena::open(device);
  if (!arena) return fail(arena.error());
  auto from = DeviceBuffer::allocate(device, on_gpu_bytes);
  if (!from) return fail(from.error());
  auto to = DeviceBuffer::allocate(device, 2 * on_gpu_bytes);
  if (!to) return fail(to.error());
  auto made = std::make_unique<Bench>();
  for (std::size_t i = 0; i < kAtOnce; ++i) {
    auto slot = StagingSlot::create(device, kBlockBytes);
    if (!slot) return fail(slot.error());
    auto stream = Stream::create(device);
    if (!stream) return fail(stream.error());
    made->slots.push_back(std::move(*slot));
    made->streams.push_back(std::make_unique<Stream>(std::move(*stream)));
  }
  made->device = std::move(device);
  made->arena = std::move(*arena);
  made->from = std::make_unique<DeviceBuffer>(std::move(*from));
  made->to = std::make_unique<DeviceBuffer>(std::move(*to));
  return made;
}

/// While `main` runs rows.
std::unique_ptr<Bench> opened;

Bench& bench() {
  return *opened;
}

void count_bytes(benchmark::State& state, std::size_t each) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(each));
  state.counters["bytes_each"] = static_cast<double>(each);
}

/// Ends a row at the first failure.
bool went_well(benchmark::State& state, const Result<>& outcome) {
  if (outcome) return true;
  state.SkipWithError(std::string(outcome.error().context).c_str());
  return false;
}

/// Moves kBatch blocks a time. `begin` queues a stage of a block at one of the places that have
/// them under way; `wait` waits for what is queued there.
template <class Begin, class Wait>
void move_blocks(benchmark::State& state, std::size_t stages, Begin begin, Wait wait) {
  for (auto _ : state) {
    Result<> done;
    for (std::size_t turn = 0; done && turn < kBatch * stages; ++turn) {
      const std::size_t place = turn % kAtOnce;
      if (turn >= kAtOnce) done = wait(place);
      if (done) done = begin(place, turn / kAtOnce % stages);
    }
    for (std::size_t place = 0; place < kAtOnce; ++place) {
      const Result<> over = wait(place);
      if (done) done = over;
    }
    if (!went_well(state, done)) break;
  }
  count_bytes(state, kBatch * kBlockBytes);
}

Result<> wait_for_slot(std::size_t place) {
  return bench().slots[place]->synchronize();
}

void copy_whole(benchmark::State& state, bool to_gpu) {
  Bench& on = bench();
  const auto begin = [&](std::size_t place, std::size_t) {
    const auto host = reinterpret_cast<cuda::Address>(on.slots[place]->host().data());
    const cuda::Address there = on.to->address() + place * kBlockBytes;
    return on.streams[place]->copy(to_gpu ? there : host, to_gpu ? host : there, kBlockBytes);
  };
  move_blocks(state, 1, begin, [&](std::size_t place) { return on.streams[place]->synchronize(); });
}

using Pages = std::vector<std::vector<DevicePiece>>;

/// Every second piece of a cache, of a block for each place.
Pages pages_of(const DeviceBuffer& cache, std::size_t piece) {
  Pages pages(kAtOnce);
  for (std::size_t place = 0; place < kAtOnce; ++place) {
    for (std::size_t at = 0; at < kBlockBytes; at += piece) {
      pages[place].push_back({cache.address() + 2 * (place * kBlockBytes + at), piece});
    }
  }
  return pages;
}

void do_nothing(void*) {}

void move_pieces(benchmark::State& state, bool to_gpu, std::size_t piece) {
  Bench& on = bench();
  const Pages pages = pages_of(*on.to, piece);
  const auto begin = [&](std::size_t place, std::size_t) {
    StagingSlot& slot = *on.slots[place];
    return to_gpu ? slot.scatter(pages[place], do_nothing, nullptr)
                  : slot.gather(pages[place], nullptr, do_nothing, nullptr);
  };
  move_blocks(state, 1, begin, wait_for_slot);
}

/// A hit on the same host, as the GPU does it by itself.
void pull_hits(benchmark::State& state, std::size_t piece) {
  Bench& on = bench();
  const Pages pages = pages_of(*on.to, piece);
  const auto begin = [&](std::size_t place, std::size_t stage) {
    StagingSlot& slot = *on.slots[place];
    if (stage == 0) {
      const auto from = reinterpret_cast<cuda::Address>(on.arena->block(place).data());
      const cuda::HostRun run{from, kBlockBytes, 0};
      return slot.pull({&run, 1}, true, do_nothing, nullptr);
    }
    benchmark::DoNotOptimize(slot.sums());
    return slot.spread(pages[place], do_nothing, nullptr);
  };
  move_blocks(state, 2, begin, wait_for_slot);
}

/// And as the host does it.
void hash_hits(benchmark::State& state, std::size_t piece) {
  Bench& on = bench();
  const Pages pages = pages_of(*on.to, piece);
  const auto begin = [&](std::size_t place, std::size_t) {
    StagingSlot& slot = *on.slots[place];
    HashedCopy copy(copy_way(kBlockBytes));
    copy.add(slot.host().data(), on.arena->block(place));
    benchmark::DoNotOptimize(copy.finish());
    fence_streams();
    return slot.scatter(pages[place], do_nothing, nullptr);
  };
  move_blocks(state, 1, begin, wait_for_slot);
}

void copy_on_gpu(benchmark::State& state) {
  Bench& on = bench();
  Stream& stream = *on.streams.front();
  for (auto _ : state) {
    Result<> done = stream.copy(on.to->address(), on.from->address(), on_gpu_bytes);
    if (done) done = stream.synchronize();
    if (!went_well(state, done)) break;
  }
  count_bytes(state, on_gpu_bytes);
}

void move_chunks(benchmark::State& state, std::size_t piece) {
  Bench& on = bench();
  Stream& stream = *on.streams.front();
  Result<ChunkTable> table = ChunkTable::create(on.device);
  if (!table) return state.SkipWithError("no table of pieces");
  const std::size_t most = ChunkTable::kMaxChunks / ChunkTable::chunks_of(piece) * piece;
  const std::size_t bytes = std::min(on_gpu_bytes, most);
  for (std::size_t at = 0; at < bytes; at += piece) {
    if (!table->add(on.to->address() + 2 * at, on.from->address() + at, piece)) {
      return state.SkipWithError("too many pieces for one table");
    }
  }
  for (auto _ : state) {
    Result<> done = table->launch(stream);
    if (done) done = stream.synchronize();
    if (!went_well(state, done)) break;
  }
  count_bytes(state, bytes);
}

void hash_blocks(benchmark::State& state, std::size_t block) {
  Bench& on = bench();
  Stream& stream = *on.streams.front();
  const std::size_t bytes = std::min(on_gpu_bytes, DeviceHasher::kMaxInputs * block);
  Result<DeviceHasher> hasher = DeviceHasher::create(on.device, bytes);
  if (!hasher) return state.SkipWithError("no hasher");
  std::vector<DeviceBytes> blocks;
  for (std::size_t at = 0; at < bytes; at += block) {
    blocks.push_back({on.from->address() + at, block});
  }
  for (auto _ : state) {
    Result<> done = hasher->start(stream, blocks);
    if (done) done = stream.synchronize();
    if (!went_well(state, done)) break;
    benchmark::DoNotOptimize(hasher->finish());
  }
  count_bytes(state, bytes);
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
    add_row("pull/" + size, [=](benchmark::State& state) { pull_hits(state, piece); });
    add_row("hashed/" + size, [=](benchmark::State& state) { hash_hits(state, piece); });
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

/// Takes what is ours out of the arguments.
void take_options(int& count, char** arguments) {
  constexpr std::string_view kDriver = "--driver=";
  constexpr std::string_view kOnGpu = "--on-gpu-mib=";
  int kept = 0;
  for (int i = 0; i < count; ++i) {
    const std::string_view argument = arguments[i];
    if (argument.starts_with(kDriver)) {
      library = argument.substr(kDriver.size());
    } else if (argument.starts_with(kOnGpu)) {
      const std::size_t mib = std::strtoul(arguments[i] + kOnGpu.size(), nullptr, 10);
      on_gpu_bytes = std::max(mib, std::size_t{16}) << 20;
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
  membrain::take_options(count, arguments);
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
