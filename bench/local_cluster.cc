#include "bench/local_cluster.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "base/check.h"

namespace membrain {

namespace {

constexpr const char* kSecret = "bench";
constexpr const char* kHost = "this host";

BlockHash hash_of(std::uint64_t number) {
  return BlockHash::from(std::as_bytes(std::span(&number, 1))).value();
}

/// What somebody waits for: on another thread, or by turning the loop that makes it.
template <class T>
class Awaited {
 public:
  void set(Result<T> value) {
    // Under the lock: the waiter's stack is gone once it has seen the value.
    const std::lock_guard lock(mutex_);
    value_.emplace(std::move(value));
    there_.notify_one();
  }
  Result<T> wait() {
    std::unique_lock lock(mutex_);
    there_.wait(lock, [this] { return value_.has_value(); });
    return std::move(*value_);
  }
  /// As the client does it with Threads::caller.
  Result<T> drive(Loop& loop) {
    const Duration spin = LoopConfig().spin;
    TimePoint busy = loop.clock().now();
    while (!value_) {
      if (loop.turn()) {
        busy = loop.now();
      } else if (loop.now() - busy >= spin) {
        loop.wait(std::chrono::milliseconds(50));
        busy = loop.clock().now();
      }
    }
    return std::move(*value_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable there_;
  std::optional<Result<T>> value_;
};

template <class T>
Task<> settle(Task<Result<T>> work, Awaited<T>& outcome) {
  Result<T> result = co_await work;
  outcome.set(std::move(result));
}

Task<Result<bool>> stop_node(NodeService& node) {
  Task<> stopping = node.stop();
  co_await stopping;
  co_return true;
}

Task<Result<bool>> start_client(ClientCore& client) {
  Task<Result<>> starting = client.start();
  const Result<> started = co_await starting;
  if (!started) co_return fail(started.error());
  co_return true;
}

Task<Result<bool>> stop_client(ClientCore& client) {
  Task<> stopping = client.stop();
  co_await stopping;
  co_return true;
}

std::unique_ptr<Fabric> made(const std::shared_ptr<UcxContext>& context, Loop& loop,
                             const char* label) {
  UcxFabricConfig config;
  config.secret = kSecret;
  config.label = label;
  return make_ucx_fabric(context, loop, config).value();
}

}  // namespace

InProcessCluster::Side::Side(const Clock& clock, const std::shared_ptr<UcxContext>& context,
                             const char* label, Loop* shared)
    : own_(clock), loop(shared != nullptr ? *shared : own_), fabric(made(context, loop, label)) {}

void InProcessCluster::Side::run() {
  thread_ = std::thread([this] { loop.run(); });
}

void InProcessCluster::Side::halt() {
  if (!thread_.joinable()) return;
  loop.stop();
  thread_.join();
}

std::byte InProcessCluster::content(std::uint64_t number, std::size_t offset) noexcept {
  return static_cast<std::byte>(number * 131 + offset * 7 + (offset >> 8));
}

InProcessCluster::InProcessCluster(const InProcessClusterConfig& config)
    : caller_drives_(config.caller_drives) {
  UcxContextConfig context;
  context.transports = config.transports;
  context_ = UcxContext::create(context).value();
  for (auto* side : {&server_, &node_control_, &node_data_, &client_control_}) {
    *side = std::make_unique<Side>(clock_, context_, "bench");
  }
  client_data_ = std::make_unique<Side>(clock_, context_, "bench",
                                        caller_drives_ ? &client_control_->loop : nullptr);
  ShardConfig shard;
  shard.secret = kSecret;
  service_ = std::make_unique<ShardService>(*server_->fabric, shard);
  check(service_->listen("127.0.0.1:0").has_value(), "the bench's server could not start");
  service_->lead(tenure_.next_term(), tenure_);
  arena_ = Arena::anonymous(config.capacity_bytes).value();
  NodeConfig node;
  node.server = service_->address();
  node.secret = kSecret;
  node.host = kHost;
  node_ = std::make_unique<NodeService>(*node_control_->fabric, *node_data_->fabric, *arena_, node);
  check(node_->start().has_value(), "the bench's node could not start");
  ClientConfig client;
  client.server = service_->address();
  client.secret = kSecret;
  client.verify_checksums = config.verify_checksums;
  client.fetch_window_blocks = config.window_blocks;
  client_ =
      std::make_unique<ClientCore>(*client_control_->fabric, *client_data_->fabric, client, kHost);
  for (auto* side : {&server_, &node_control_, &node_data_}) (*side)->run();
  if (!caller_drives_) {
    client_control_->run();
    client_data_->run();
  }
  check(wait_for<bool>(*client_control_, [&] { return start_client(*client_); }).has_value(),
        "the bench's client could not connect");
  Namespace space;
  space.model = "bench";
  space_ = wait_for<OpenedNamespace>(*client_control_, [&] {
             return client_->open_namespace(space);
           }).value();
}

InProcessCluster::~InProcessCluster() {
  (void)wait_for<bool>(*client_control_, [&] { return stop_client(*client_); });
  (void)wait_for<bool>(*node_control_, false, [&] { return stop_node(*node_); });
  for (auto* side : {&client_data_, &client_control_, &node_data_, &node_control_, &server_}) {
    (*side)->halt();
  }
  client_.reset();
  node_.reset();
  service_.reset();
}

template <class T, class Start>
Result<T> InProcessCluster::wait_for(Side& side, bool driven, Start start) {
  Awaited<T> outcome;
  const Result<> posted =
      side.loop.inbox().post([&] { side.loop.spawn(settle<T>(start(), outcome)); });
  if (!posted) return fail(posted.error());
  return driven ? outcome.drive(side.loop) : outcome.wait();
}

bool InProcessCluster::store(std::uint64_t first, std::size_t count, std::size_t bytes) {
  std::vector<std::byte> block(bytes);
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t at = 0; at < bytes; ++at) block[at] = content(first + i, at);
    StoreItem item;
    item.hash = hash_of(first + i);
    item.depth = static_cast<std::uint32_t>(i);
    if (i > 0) item.parent = hash_of(first + i - 1);
    item.from = {{block.data(), block.size()}};
    // A node that has just started may not have registered yet: asked again for a while.
    bool kept = false;
    for (int attempt = 0; attempt < 200 && !kept; ++attempt) {
      const Result<TransferReport> report = wait_for<TransferReport>(
          *client_data_, [&] { return client_->store(space_, {item}, {}, nullptr); });
      kept = report && report->items[0].ok;
      if (!kept) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    if (!kept) return false;
  }
  return true;
}

Match InProcessCluster::lookup(std::uint64_t first, std::size_t count) {
  std::vector<BlockHash> hashes;
  for (std::size_t i = 0; i < count; ++i) hashes.push_back(hash_of(first + i));
  Result<Match> match =
      wait_for<Match>(*client_control_, [&] { return client_->lookup(space_, hashes, {}); });
  return match ? std::move(*match) : Match();
}

bool InProcessCluster::fetch(const Match& match, const std::vector<FetchItem>& items) {
  return fetch(match, FetchList(items));
}

bool InProcessCluster::fetch(const Match& match, FetchList list) {
  const std::size_t count = list.size();
  const Result<TransferReport> report = wait_for<TransferReport>(
      *client_data_, [&] { return client_->fetch(match.state(), std::move(list), {}, nullptr); });
  if (!report) return false;
  if (!report->lane_bytes.empty()) lane_ = report->lane_bytes.begin()->first;
  return report->ok_count() == count;
}

}  // namespace membrain
