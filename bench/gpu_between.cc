#include "bench/gpu_between.h"

#include <benchmark/benchmark.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/gpu_cache.h"
#include "bench/page_memory.h"
#include "membrain/client.h"

namespace membrain::gpu_bench {
namespace {

/// A GPU, and an empty cache on it.
struct Room {
  std::shared_ptr<const cuda::Device> device;
  std::unique_ptr<cuda::DeviceBuffer> cache;
  std::unique_ptr<cuda::Stream> stream;
};

/// What a client finds there.
struct Peer {
  std::unique_ptr<Client> client;
  Match on_gpu;
  Match on_node;
};

struct Members {
  std::unique_ptr<nccl::BlockBroadcast> through;
  std::unique_ptr<nccl::Communicator> communicator;
};

/// This process's side. Each thing is made when a row first needs it, once; if that fails, every
/// row that needs it says why.
class Between {
 public:
  Between(GpuNeighbour& neighbour, std::string driver)
      : neighbour_(neighbour), driver_(std::move(driver)) {}
  ~Between() {
    // In this order: matches before their client, all before the GPU.
    members_.reset();
    peer_.reset();
    theirs_.reset();
    room_.reset();
  }
  Between(const Between&) = delete;
  Between& operator=(const Between&) = delete;

  Outcome<Room*> room() {
    return once(room_, [this] { return make_room(); });
  }
  Outcome<cuda::IpcMemory*> theirs() {
    return once(theirs_, [this] { return open_theirs(); });
  }
  Outcome<Peer*> peer() {
    return once(peer_, [this] { return connect(); });
  }
  Outcome<Members*> members() {
    return once(members_, [this] { return join(); });
  }
  [[nodiscard]] GpuNeighbour& neighbour() noexcept { return neighbour_; }

  /// Fails `state` unless the cache here now holds what the neighbour's does.
  void compare(benchmark::State& state) {
    std::vector<std::byte> held(kCacheBytes);
    Result<> done = room_->value().stream->copy(reinterpret_cast<cuda::Address>(held.data()),
                                                room_->value().cache->address(), held.size());
    if (done) done = room_->value().stream->synchronize();
    if (!done || held != content()) state.SkipWithError("wrong bytes came");
  }

 private:
  template <class T, class Make>
  static Outcome<T*> once(std::optional<Outcome<T>>& made, Make make) {
    if (!made) made.emplace(make());
    if (!*made) return tl::unexpected(made->error());
    return &**made;
  }

  Outcome<Room> make_room() const {
    const auto driver = cuda::Driver::load(driver_);
    if (!driver) return complain("no GPU: {}", driver.error().context);
    auto device = cuda::Device::open(*driver, 0);
    if (!device) return complain("no GPU: {}", device.error().context);
    auto cache = cuda::DeviceBuffer::allocate(*device, kCacheBytes);
    auto stream = cuda::Stream::create(*device);
    if (!cache || !stream) return complain("no {} MiB of the GPU left", kCacheBytes >> 20);
    return Room{*device, std::make_unique<cuda::DeviceBuffer>(std::move(*cache)),
                std::make_unique<cuda::Stream>(std::move(*stream))};
  }

  Outcome<cuda::IpcMemory> open_theirs() {
    const Outcome<Room*> here = room();
    if (!here) return tl::unexpected(here.error());
    const auto handle = neighbour_.open_memory();
    if (!handle) return tl::unexpected(handle.error());
    auto memory = cuda::IpcMemory::open(driver_, (*here)->device, *handle);
    if (!memory) return complain("no CUDA IPC: {}", memory.error().context);
    return std::move(*memory);
  }

  Outcome<Peer> connect() {
    if (const auto here = room(); !here) return tl::unexpected(here.error());
    const auto server = neighbour_.open_cluster();
    if (!server) return tl::unexpected(server.error());
    ClientConfig config;
    config.server = *server;
    config.label = "gpu-bench";
    config.devices = {0};
    config.mapped = false;
    auto client = Client::open(config);
    if (!client) return complain("no client: {}", client.error().context);
    Namespace space;
    space.model = kModel;
    const auto opened = (*client)->open_namespace(space);
    if (!opened) return complain("no namespace: {}", opened.error().context);
    Peer peer{std::move(*client), {}, {}};
    for (const Kept where : {Kept::on_gpu, Kept::on_node}) {
      auto match = peer.client->lookup(*opened, hashes_of(where));
      if (!match || match->prefix_blocks() != kBlocks) return complain("its blocks are not found");
      (where == Kept::on_gpu ? peer.on_gpu : peer.on_node) = std::move(*match);
    }
    return peer;
  }

  Outcome<Members> join() {
    const Outcome<Room*> here = room();
    if (!here) return tl::unexpected(here.error());
    const auto library = nccl::Library::load();
    if (!library) return complain("no NCCL: {}", library.error().context);
    auto through = nccl::BlockBroadcast::create((*here)->device, kChunkBytes);
    if (!through) return complain("no memory: {}", through.error().context);
    const auto id = neighbour_.make_id();
    if (!id) return tl::unexpected(id.error());
    if (!neighbour_.begin_join()) return complain("the other process has ended");
    auto communicator = join_as(1, *library, (*here)->device, *id);
    if (const Outcome<> joined = neighbour_.end(); !joined) return tl::unexpected(joined.error());
    if (!communicator) return complain("no communicator: {}", communicator.error().context);
    return Members{std::move(*through), std::move(*communicator)};
  }

  GpuNeighbour& neighbour_;
  const std::string driver_;
  std::optional<Outcome<Room>> room_;
  std::optional<Outcome<cuda::IpcMemory>> theirs_;
  std::optional<Outcome<Peer>> peer_;
  std::optional<Outcome<Members>> members_;
};

std::unique_ptr<Between> between;

/// What a row needs; null, and the row has failed, if that cannot be had.
template <class T>
T* needed(benchmark::State& state, const Outcome<T*>& thing) {
  if (thing) return *thing;
  state.SkipWithError(thing.error().text.c_str());
  return nullptr;
}

void count_caches(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kCacheBytes));
}

void copy_theirs(benchmark::State& state) {
  const Room* const here = needed(state, between->room());
  const cuda::IpcMemory* const theirs = needed(state, between->theirs());
  if (here == nullptr || theirs == nullptr) return;
  for (auto _ : state) {
    Result<> done = here->stream->copy(here->cache->address(), theirs->address(), kCacheBytes);
    if (done) done = here->stream->synchronize();
    if (!done) return state.SkipWithError(std::string(done.error().context).c_str());
  }
  between->compare(state);
  count_caches(state);
}

/// The lanes that bytes came by, with a plus between them.
std::string lanes_of(const TransferReport& report) {
  std::string lanes;
  for (const auto& [lane, bytes] : report.lane_bytes) {
    if (bytes != 0) lanes += (lanes.empty() ? "" : "+") + lane;
  }
  return lanes;
}

void fetch_all(benchmark::State& state, const Peer& peer, Kept where, const RegisteredLayout& cache,
               int device) {
  TransferOptions options;
  options.memory.device = device;
  LayoutFetch blocks;
  blocks.count = kBlocks;
  std::string lanes;
  for (auto _ : state) {
    const auto report = peer.client->fetch(where == Kept::on_gpu ? peer.on_gpu : peer.on_node,
                                           cache, blocks, options);
    if (!report) return state.SkipWithError(std::string(report.error().context).c_str());
    if (report->ok_count() != kBlocks) return state.SkipWithError("not every block came");
    lanes = lanes_of(*report);
  }
  state.SetLabel(lanes);
  count_caches(state);
}

void fetch_to_gpu(benchmark::State& state, Kept where) {
  const Room* const here = needed(state, between->room());
  const Peer* const peer = needed(state, between->peer());
  if (here == nullptr || peer == nullptr) return;
  fetch_all(state, *peer, where, layout_at(here->cache->address()), 0);
  between->compare(state);
}

void fetch_to_host(benchmark::State& state) {
  const Peer* const peer = needed(state, between->peer());
  if (peer == nullptr) return;
  PageMemory cache(kCacheBytes);
  const auto base = reinterpret_cast<std::uint64_t>(cache.data());
  fetch_all(state, *peer, Kept::on_node, layout_at(base), PieceMemory{}.device);
  const std::vector<std::byte> wanted = content();
  if (!std::equal(cache.begin(), cache.end(), wanted.begin())) {
    state.SkipWithError("wrong bytes came");
  }
}

void broadcast_theirs(benchmark::State& state) {
  const Room* const here = needed(state, between->room());
  const Members* const members = needed(state, between->members());
  if (here == nullptr || members == nullptr) return;
  for (auto _ : state) {
    if (!between->neighbour().begin_broadcast()) {
      return state.SkipWithError("the other process has ended");
    }
    const Result<> came =
        broadcast(*members->through, *members->communicator, here->cache->address());
    const Outcome<> sent = between->neighbour().end();
    if (!came) return state.SkipWithError(std::string(came.error().context).c_str());
    if (!sent) return state.SkipWithError(sent.error().text.c_str());
  }
  between->compare(state);
  count_caches(state);
}

template <class Row>
void add(const char* name, Row row) {
  benchmark::RegisterBenchmark(name, row)->UseRealTime();
}

}  // namespace

void add_between_rows(GpuNeighbour& neighbour, const std::string& driver) {
  between = std::make_unique<Between>(neighbour, driver);
  add("copy/ipc", copy_theirs);
  add("peer/32768", [](benchmark::State& state) { fetch_to_gpu(state, Kept::on_gpu); });
  add("fetch/host", fetch_to_host);
  add("staged/32768", [](benchmark::State& state) { fetch_to_gpu(state, Kept::on_node); });
  add("nccl/32768", broadcast_theirs);
}

void end_between_rows() {
  between.reset();
}

}  // namespace membrain::gpu_bench
