#include "bench/gpu_neighbour.h"

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/log.h"
#include "bench/gpu_cache.h"
#include "membrain/client.h"
#include "tools/cluster.h"
#include "tools/running_node.h"
#include "tools/running_server.h"
#include "tools/signals.h"

namespace membrain::gpu_bench {
namespace {

enum class Order : std::uint32_t { open_memory, open_cluster, make_id, join, broadcast };

/// What the neighbour answers; which fields count is the order's.
struct Answer {
  bool ok = false;
  std::array<char, 200> why{};
  cuda::IpcHandle memory;
  std::array<char, 64> server{};
  nccl::UniqueId id;
};

template <std::size_t N>
void write_text(std::array<char, N>& into, const std::string& text) {
  text.copy(into.data(), into.size() - 1);
}

template <class T>
Outcome<T> in_words(Result<T> result, const char* what) {
  if (result) return std::move(*result);
  return complain("{}: {}", what, result.error().context);
}

/// The process's whole life.
class Neighbour {
 public:
  explicit Neighbour(std::string driver) : driver_(std::move(driver)) {}

  int serve(OrderWire& wire) {
    Order order{};
    while (wire.receive(order)) {
      Answer answer;
      const Outcome<> done = obey(order, answer);
      answer.ok = done.has_value();
      if (!done) write_text(answer.why, done.error().text);
      if (!wire.send(answer)) return 1;
    }
    return 0;
  }

 private:
  Outcome<> obey(Order order, Answer& answer) {
    switch (order) {
      case Order::open_memory:
        return open_memory(answer);
      case Order::open_cluster:
        return open_cluster(answer);
      case Order::make_id:
        return make_id(answer);
      case Order::join:
        return join();
      case Order::broadcast:
        return send_cache();
    }
    return complain("no such order");
  }

  Outcome<> open_memory(Answer& answer) {
    if (const Outcome<> filled = fill(); !filled) return filled;
    const auto handle = cuda::ipc_handle_of(driver_, *device_, cache_->address());
    if (!handle) return complain("no handle of its memory: {}", handle.error().context);
    answer.memory = *handle;
    return {};
  }

  /// The GPU, with the cache on it.
  Outcome<> fill() {
    if (cache_) return {};
    const auto driver = cuda::Driver::load(driver_);
    if (!driver) return complain("no GPU: {}", driver.error().context);
    const auto device = cuda::Device::open(*driver, 0);
    if (!device) return complain("no GPU: {}", device.error().context);
    auto cache = cuda::DeviceBuffer::allocate(*device, kCacheBytes);
    auto stream = cuda::Stream::create(*device);
    if (!cache || !stream) return complain("no {} MiB of the GPU left", kCacheBytes >> 20);
    const std::vector<std::byte> bytes = content();
    Result<> copied =
        stream->copy(cache->address(), reinterpret_cast<cuda::Address>(bytes.data()), bytes.size());
    if (copied) copied = stream->synchronize();
    if (!copied) return complain("its cache is not filled: {}", copied.error().context);
    device_ = *device;
    cache_.emplace(std::move(*cache));
    return {};
  }

  Outcome<> open_cluster(Answer& answer) {
    if (const Outcome<> filled = fill(); !filled) return filled;
    if (const Outcome<> enough = check_memory_for(kCapacity); !enough) return enough;
    auto context = in_words(UcxContext::create(), "no network");
    if (!context) return tl::unexpected(context.error());
    ServerOptions server;
    server.listen = "127.0.0.1:0";
    server.no_admin = true;
    server.temporary = true;
    auto running = RunningServer::start(server, *context);
    if (!running) return tl::unexpected(running.error());
    NodeOptions node;
    node.server = (*running)->address();
    node.name = "gpu-bench";
    node.capacity_bytes = kCapacity;
    node.temporary = true;
    auto holding = RunningNode::start(node, *context);
    if (!holding) return tl::unexpected(holding.error());
    Signals signals;
    if (!(*holding)->wait_connected(SteadyClock().now() + kPatience, signals)) {
      return complain("the node did not come up");
    }
    server_ = std::move(*running);
    node_ = std::move(*holding);
    write_text(answer.server, server_->address());
    return keep();
  }

  /// Shares the cache, and stores it.
  Outcome<> keep() {
    ClientConfig config;
    config.server = server_->address();
    config.label = "gpu-bench neighbour";
    config.devices = {0};
    config.mapped = false;
    config.share_listen = "127.0.0.1:0";
    auto client = in_words(Client::open(config), "no client");
    if (!client) return tl::unexpected(client.error());
    Namespace space;
    space.model = kModel;
    auto opened = in_words((*client)->open_namespace(space), "no namespace");
    if (!opened) return tl::unexpected(opened.error());
    TransferOptions options;
    options.memory.device = 0;
    const RegisteredLayout cache = layout_at(cache_->address());
    for (const Kept where : {Kept::on_gpu, Kept::on_node}) {
      const std::vector<BlockHash> hashes = hashes_of(where);
      LayoutStore blocks;
      blocks.hashes = hashes;
      const auto report = where == Kept::on_gpu ? (*client)->share(*opened, cache, blocks, options)
                                                : (*client)->store(*opened, cache, blocks, options);
      const char* const what = where == Kept::on_gpu ? "shared" : "stored";
      if (!report) return complain("nothing is {}: {}", what, report.error().context);
      if (report->ok_count() != kBlocks) return complain("not every block is {}", what);
    }
    client_ = std::move(*client);
    return {};
  }

  Outcome<> make_id(Answer& answer) {
    if (const Outcome<> filled = fill(); !filled) return filled;
    auto library = in_words(nccl::Library::load(), "no NCCL");
    if (!library) return tl::unexpected(library.error());
    auto id = in_words((*library)->make_id(), "no id");
    if (!id) return tl::unexpected(id.error());
    nccl_ = std::move(*library);
    id_ = answer.id = *id;
    return {};
  }

  Outcome<> join() {
    if (nccl_ == nullptr) return complain("no id");
    auto through = in_words(nccl::BlockBroadcast::create(device_, kChunkBytes), "no memory");
    if (!through) return tl::unexpected(through.error());
    auto members = in_words(join_as(0, nccl_, device_, id_), "no communicator");
    if (!members) return tl::unexpected(members.error());
    through_ = std::move(*through);
    members_ = std::move(*members);
    return {};
  }

  Outcome<> send_cache() {
    if (members_ == nullptr) return complain("no communicator");
    const Result<> sent = broadcast(*through_, *members_, cache_->address());
    if (!sent) return complain("the root's broadcast: {}", sent.error().context);
    return {};
  }

  /// What is shared lies on the GPU alone: the node keeps the stored blocks, twice over.
  static constexpr std::uint64_t kCapacity = 4 * kCacheBytes;

  const std::string driver_;
  std::shared_ptr<const cuda::Device> device_;
  std::optional<cuda::DeviceBuffer> cache_;
  std::unique_ptr<RunningServer> server_;
  std::unique_ptr<RunningNode> node_;
  std::unique_ptr<Client> client_;
  std::shared_ptr<const nccl::Library> nccl_;
  nccl::UniqueId id_;
  std::unique_ptr<nccl::BlockBroadcast> through_;
  std::unique_ptr<nccl::Communicator> members_;
};

Outcome<Answer> hear(OrderWire& wire) {
  Answer answer;
  if (!wire.receive(answer)) return complain("the other process has ended");
  if (!answer.ok) return complain("{}", answer.why.data());
  return answer;
}

Outcome<Answer> tell(OrderWire& wire, Order order) {
  if (!wire.send(order)) return complain("the other process has ended");
  return hear(wire);
}

}  // namespace

GpuNeighbour::GpuNeighbour(std::string driver)
    : process_([driver = std::move(driver)](OrderWire& wire) {
        set_log_level(LogLevel::error);
        // Not the one that the parent has set: NCCL refuses two members of a host on one GPU.
        ::setenv("NCCL_HOSTID", "gpu-bench-neighbour", 1);
        return Neighbour(driver).serve(wire);
      }) {}

Outcome<cuda::IpcHandle> GpuNeighbour::open_memory() {
  return tell(process_.wire(), Order::open_memory).map([](const Answer& answer) {
    return answer.memory;
  });
}

Outcome<std::string> GpuNeighbour::open_cluster() {
  return tell(process_.wire(), Order::open_cluster).map([](const Answer& answer) {
    return std::string(answer.server.data());
  });
}

Outcome<nccl::UniqueId> GpuNeighbour::make_id() {
  return tell(process_.wire(), Order::make_id).map([](const Answer& answer) { return answer.id; });
}

bool GpuNeighbour::begin_join() {
  return process_.wire().send(Order::join);
}

bool GpuNeighbour::begin_broadcast() {
  return process_.wire().send(Order::broadcast);
}

Outcome<> GpuNeighbour::end() {
  return hear(process_.wire()).map([](const Answer&) {});
}

}  // namespace membrain::gpu_bench
