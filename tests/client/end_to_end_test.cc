// A real server, a real node and real clients in one process, over UCX.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "cache/node/arena.h"
#include "cache/node/node_service.h"
#include "membrain/client.h"
#include "server/shard_service.h"
#include "server/term.h"
#include "transport/loop.h"
#include "transport/ucx/ucx_fabric.h"

namespace membrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Threads = ClientConfig::Threads;

constexpr const char* kSecret = "end to end";

/// A loop and the thread that runs it, once started.
class LoopThread {
 public:
  explicit LoopThread(const Clock& clock) : loop_(clock) {}
  ~LoopThread() { stop(); }

  [[nodiscard]] Loop& loop() noexcept { return loop_; }
  void start() {
    thread_ = std::jthread([this] { loop_.run(); });
  }
  void stop() {
    if (!thread_.joinable()) return;
    loop_.stop();
    thread_.join();
  }

 private:
  Loop loop_;
  std::jthread thread_;
};

std::unique_ptr<Fabric> fabric_on(Loop& loop, const std::string& label) {
  static const std::shared_ptr<UcxContext> context = UcxContext::create().value();
  UcxFabricConfig config;
  config.secret = kSecret;
  config.label = label;
  return make_ucx_fabric(context, loop, config).value();
}

Task<> stop_server(ShardService& service, std::atomic<bool>& stopped) {
  Task<> stopping = service.stop();
  co_await stopping;
  stopped = true;
}

class Server {
 public:
  Server(const Clock& clock, LoneTenure& tenure, const Address& listen = "127.0.0.1:0")
      : on_(clock), fabric_(fabric_on(on_.loop(), "server")) {
    ShardConfig config;
    config.secret = kSecret;
    config.session_ttl = seconds(3);
    config.node_ttl = seconds(3);
    service_ = std::make_unique<ShardService>(*fabric_, config);
    EXPECT_TRUE(service_->listen(listen));
    service_->lead(tenure.next_term(), tenure);
    on_.start();
  }
  ~Server() {
    std::atomic<bool> stopped = false;
    Loop& loop = on_.loop();
    EXPECT_TRUE(loop.inbox().post([&] { loop.spawn(stop_server(*service_, stopped)); }));
    while (!stopped) std::this_thread::yield();
    on_.stop();
  }
  [[nodiscard]] Address address() const { return service_->address(); }

 private:
  LoopThread on_;
  std::unique_ptr<Fabric> fabric_;
  std::unique_ptr<ShardService> service_;
};

Task<> stop_node(NodeService& service, std::atomic<bool>& stopped) {
  Task<> stopping = service.stop();
  co_await stopping;
  stopped = true;
}

class Node {
 public:
  Node(const Clock& clock, const Address& server, std::uint64_t capacity_bytes)
      : control_(clock),
        data_(clock),
        control_fabric_(fabric_on(control_.loop(), "node")),
        data_fabric_(fabric_on(data_.loop(), "node")),
        arena_(Arena::anonymous(capacity_bytes).value()) {
    NodeConfig config;
    config.server = server;
    config.secret = kSecret;
    config.host = "a host";
    service_ = std::make_unique<NodeService>(*control_fabric_, *data_fabric_, *arena_, config);
    EXPECT_TRUE(service_->start());
    control_.start();
    data_.start();
  }
  ~Node() {
    std::atomic<bool> stopped = false;
    Loop& loop = control_.loop();
    NodeService& service = *service_;
    EXPECT_TRUE(loop.inbox().post([&] { loop.spawn(stop_node(service, stopped)); }));
    while (!stopped) std::this_thread::yield();
    control_.stop();
    data_.stop();
  }

 private:
  LoopThread control_;
  LoopThread data_;
  std::unique_ptr<Fabric> control_fabric_;
  std::unique_ptr<Fabric> data_fabric_;
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<NodeService> service_;
};

std::vector<std::byte> content(std::size_t size, unsigned seed) {
  std::vector<std::byte> bytes(size);
  std::uint32_t state = seed * 2654435761U + 1;
  for (std::byte& one : bytes) {
    state = state * 1664525 + 1013904223;
    one = static_cast<std::byte>(state >> 24);
  }
  return bytes;
}

BlockHash hash_of(unsigned number) {
  BlockHash hash;
  hash.size = 16;
  for (std::size_t i = 0; i < sizeof number; ++i) {
    hash.bytes[i] = static_cast<std::byte>(number >> (8 * i));
  }
  return hash;
}

std::size_t size_of(unsigned number) {
  constexpr std::size_t kSizes[] = {16'384, 4096, 65'536, 262'144, 1'048'576, 100'000, 300};
  return kSizes[number % std::size(kSizes)];
}

std::vector<BlockHash> hashes_of(unsigned first, unsigned count) {
  std::vector<BlockHash> hashes;
  for (unsigned i = 0; i < count; ++i) hashes.push_back(hash_of(first + i));
  return hashes;
}

/// A server, a node, and clients in the mode of the parameter.
class EndToEnd : public testing::TestWithParam<Threads> {
 protected:
  std::unique_ptr<Client> client(const std::string& label) {
    ClientConfig config;
    config.server = server_->address();
    config.secret = kSecret;
    config.label = label;
    config.threads = GetParam();
    Result<std::unique_ptr<Client>> opened = Client::open(config);
    EXPECT_TRUE(opened) << opened.error().context;
    return std::move(*opened);
  }
  static OpenedNamespace open(Client& client) {
    Namespace space;
    space.model = "end to end";
    return client.open_namespace(space).value();
  }
  /// Stores blocks `first` to `first + count`; waits for the node to be there.
  static Result<TransferReport> store(Client& client, const OpenedNamespace& space, unsigned first,
                                      unsigned count) {
    std::vector<std::vector<std::byte>> memory;
    std::vector<StoreItem> items;
    for (unsigned number = first; number < first + count; ++number) {
      memory.push_back(content(size_of(number), number));
      StoreItem& item = items.emplace_back();
      item.hash = hash_of(number);
      if (number > first) item.parent = hash_of(number - 1);
      item.depth = number - first;
      item.from = {{memory.back().data(), memory.back().size()}};
    }
    return client.store(space, items);
  }
  static void wait_for_a_node(Client& client, const OpenedNamespace& space) {
    const auto until = std::chrono::steady_clock::now() + seconds(20);
    while (std::chrono::steady_clock::now() < until) {
      if (const auto report = store(client, space, 1'000'000, 1); report && report->items[0].ok) {
        return;
      }
    }
    FAIL() << "no node takes blocks";
  }
  /// Fetches all blocks of the match, each in three pieces; counts what is right.
  static std::size_t fetch_right(Client& client, const Match& match, unsigned first) {
    std::vector<std::vector<std::byte>> into(match.prefix_blocks());
    std::vector<FetchItem> items(into.size());
    for (std::uint32_t i = 0; i < items.size(); ++i) {
      const std::size_t size = match.part_bytes(i);
      into[i].resize(size);
      items[i].block = i;
      const std::size_t third = size / 3;
      items[i].into = {{into[i].data(), third},
                       {into[i].data() + third, third},
                       {into[i].data() + 2 * third, size - 2 * third}};
    }
    const Result<TransferReport> report = client.fetch(match, items);
    if (!report) return 0;
    std::size_t right = 0;
    for (std::uint32_t i = 0; i < items.size(); ++i) {
      const bool same = into[i] == content(size_of(first + i), first + i);
      EXPECT_TRUE(same || !report->items[i].ok) << "wrong bytes in block " << i;
      right += report->items[i].ok && same ? 1U : 0U;
    }
    return right;
  }

  SteadyClock clock_;
  LoneTenure tenure_;
  std::unique_ptr<Server> server_ = std::make_unique<Server>(clock_, tenure_);
  std::unique_ptr<Node> node_ =
      std::make_unique<Node>(clock_, server_->address(), std::uint64_t{256} << 20);
};

TEST_P(EndToEnd, WhatOneClientStoresAnotherFetchesByteForByte) {
  constexpr unsigned kBlocks = 300;
  const std::unique_ptr<Client> writer = client("writer");
  const OpenedNamespace space = open(*writer);
  wait_for_a_node(*writer, space);
  const Result<TransferReport> stored = store(*writer, space, 0, kBlocks);
  ASSERT_TRUE(stored);
  EXPECT_EQ(stored->ok_count(), kBlocks);
  EXPECT_GT(stored->bytes, 50'000'000U);

  const std::unique_ptr<Client> reader = client("reader");
  const OpenedNamespace same = open(*reader);
  EXPECT_EQ(same.id, space.id);
  const std::vector<bool> there = reader->contains(same, hashes_of(0, kBlocks + 1)).value();
  EXPECT_EQ(std::count(there.begin(), there.end(), true), kBlocks);
  const Match match = reader->lookup(same, hashes_of(0, kBlocks + 1)).value();
  EXPECT_EQ(match.prefix_blocks(), kBlocks);
  EXPECT_EQ(fetch_right(*reader, match, 0), kBlocks);

  const Result<TransferReport> again = store(*reader, same, 0, 10);
  ASSERT_TRUE(again);
  for (const ItemOutcome& item : again->items) EXPECT_TRUE(item.ok && item.duplicate);
  EXPECT_FALSE(reader->server_stats()->empty());
}

TEST_P(EndToEnd, AGrantLetsAnotherClientFetchWhatIsPinned) {
  const std::unique_ptr<Client> issuer = client("issuer");
  const OpenedNamespace space = open(*issuer);
  wait_for_a_node(*issuer, space);
  ASSERT_EQ(store(*issuer, space, 0, 20)->ok_count(), 20U);
  Match match = issuer->lookup(space, hashes_of(0, 20)).value();
  const Result<std::vector<std::byte>> grant = issuer->grant(match, seconds(5));
  ASSERT_TRUE(grant) << grant.error().context;
  const std::unique_ptr<Client> worker = client("worker");
  EXPECT_EQ(worker->grant(match, seconds(5)).error().code, Errc::invalid_argument) << "not its own";
  const Match adopted = worker->adopt(*grant).value();
  EXPECT_EQ(fetch_right(*worker, adopted, 0), 20U);
  std::vector<std::byte> junk = *grant;
  junk[junk.size() / 2] ^= std::byte{1};
  EXPECT_EQ(worker->adopt(junk).error().code, Errc::corrupt);
}

TEST_P(EndToEnd, ManyOperationsRunSideBySide) {
  const std::unique_ptr<Client> one = client("many");
  const OpenedNamespace space = open(*one);
  wait_for_a_node(*one, space);
  ASSERT_EQ(store(*one, space, 0, 64)->ok_count(), 64U);
  const Match match = one->lookup(space, hashes_of(0, 64)).value();
  std::list<std::vector<std::byte>> memory;
  std::vector<std::pair<unsigned, Operation<TransferReport>>> running;
  for (unsigned i = 0; i < 200; ++i) {
    const unsigned number = i % 64;
    std::vector<std::byte>& into = memory.emplace_back(size_of(number));
    FetchItem item;
    item.block = number;
    item.into = {{into.data(), into.size()}};
    running.emplace_back(number, one->fetch_async(match, {&item, 1}));
  }
  running[7].second.cancel();
  auto into = memory.begin();
  for (std::size_t i = 0; i < running.size(); ++i, ++into) {
    const Result<TransferReport> report = running[i].second.wait();
    if (i == 7 && !report) {
      EXPECT_EQ(report.error().code, Errc::cancelled);
      continue;
    }
    ASSERT_TRUE(report);
    ASSERT_EQ(report->ok_count(), 1U);
    EXPECT_EQ(*into, content(size_of(running[i].first), running[i].first));
  }
  EXPECT_FALSE(running[0].second.wait()) << "a result is taken once";
}

TEST_P(EndToEnd, WhenTheNodeDiesBlocksAreMissesAndWhenItComesBackTheyAreStoredAgain) {
  const std::unique_ptr<Client> one = client("engine");
  const OpenedNamespace space = open(*one);
  wait_for_a_node(*one, space);
  ASSERT_EQ(store(*one, space, 0, 10)->ok_count(), 10U);
  const Match match = one->lookup(space, hashes_of(0, 10)).value();
  EXPECT_EQ(fetch_right(*one, match, 0), 10U);
  node_.reset();
  EXPECT_EQ(fetch_right(*one, match, 0), 0U);
  node_ = std::make_unique<Node>(clock_, server_->address(), std::uint64_t{64} << 20);
  wait_for_a_node(*one, space);
  EXPECT_EQ(store(*one, space, 0, 10)->ok_count(), 10U);
}

TEST_P(EndToEnd, WhileTheServerIsAwayLookupsAreUnavailableAtOnce) {
  const std::unique_ptr<Client> one = client("engine");
  const OpenedNamespace space = open(*one);
  server_.reset();
  Result<Match> match = one->lookup(space, hashes_of(0, 10));
  for (int i = 0; i < 1000 && match; ++i) match = one->lookup(space, hashes_of(0, 10));
  ASSERT_FALSE(match);
  const auto before = std::chrono::steady_clock::now();
  match = one->lookup(space, hashes_of(0, 10));
  EXPECT_EQ(match.error().code, Errc::unavailable);
  EXPECT_LT(std::chrono::steady_clock::now() - before, seconds(1));
}

TEST_P(EndToEnd, AfterARestartOfTheServerPinsHoldAndTheCacheIsStillThere) {
  const std::unique_ptr<Client> one = client("engine");
  const OpenedNamespace space = open(*one);
  wait_for_a_node(*one, space);
  ASSERT_EQ(store(*one, space, 0, 10)->ok_count(), 10U);
  const Match held = one->lookup(space, hashes_of(0, 5)).value();
  const Address address = server_->address();
  server_.reset();
  EXPECT_EQ(fetch_right(*one, held, 0), 5U) << "nodes serve without the server";
  server_ = std::make_unique<Server>(clock_, tenure_, address);
  const auto until = std::chrono::steady_clock::now() + seconds(30);
  std::size_t prefix = 0;
  while (prefix != 10 && std::chrono::steady_clock::now() < until) {
    one->poll();
    if (const Result<Match> match = one->lookup(space, hashes_of(0, 10))) {
      prefix = match->prefix_blocks();
    }
  }
  EXPECT_EQ(prefix, 10U);
  EXPECT_EQ(one->server_stats()->at("epoch"), 2U);
  EXPECT_GE(one->server_stats()->at("pins"), 5U);
  EXPECT_EQ(fetch_right(*one, held, 0), 5U);
  const Match match = one->lookup(space, hashes_of(0, 10)).value();
  EXPECT_EQ(fetch_right(*one, match, 0), 10U);
}

INSTANTIATE_TEST_SUITE_P(Modes, EndToEnd, testing::Values(Threads::own, Threads::caller),
                         [](const auto& mode) {
                           return mode.param == Threads::own ? "OwnThreads" : "CallersThread";
                         });

TEST(ClientOpen, SaysWhatIsWrong) {
  ClientConfig config;
  config.server = "127.0.0.1:1";  // nobody listens there
  config.connect_timeout = seconds(2);
  EXPECT_EQ(Client::open(config).error().code, Errc::unavailable);
  config.threads = Threads::caller;
  EXPECT_EQ(Client::open(config).error().code, Errc::unavailable);
  config.server.clear();
  EXPECT_EQ(Client::open(config).error().code, Errc::invalid_argument);
  config.server = "127.0.0.1:1";
  config.fetch_window_blocks = 0;
  EXPECT_EQ(Client::open(config).error().code, Errc::invalid_argument);
}

TEST(ClientOpen, AWrongSecretIsDenied) {
  const SteadyClock clock;
  LoneTenure tenure;
  const Server server(clock, tenure);
  ClientConfig config;
  config.server = server.address();
  config.secret = "another";
  EXPECT_EQ(Client::open(config).error().code, Errc::denied);
}

}  // namespace
}  // namespace membrain
