// Many clients in one process, for bench/sessions_bench.py: each a whole one (sessions, heartbeats,
// reconnects and their jitter), on one thread, with a few UCX workers that are shared by all.
//
//     sessions_load SERVERS SESSIONS SECONDS
//
// Opens them, a hundred a second, looks 64 blocks up from each once a second for SECONDS, prints a
// line of JSON, and then waits until all have found their blocks in a later term of the leader:
// another line.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/log.h"
#include "cache/client/client_core.h"
#include "transport/loop.h"
#include "transport/ucx/ucx_fabric.h"

namespace membrain {
namespace {

constexpr std::size_t kSessionsOfAFabric = 64;
constexpr std::uint64_t kBlocks = 64;
constexpr std::chrono::milliseconds kOneLookup(2000);
constexpr Duration kBetweenLookups = std::chrono::seconds(1);
constexpr Duration kBetweenOpenings = std::chrono::milliseconds(10);
constexpr Duration kBetweenAttempts = std::chrono::milliseconds(100);
constexpr Duration kPatience = std::chrono::seconds(120);

/// One fabric, whose connections belong to many.
class Hub final : public Receiver {
 public:
  Hub(const std::shared_ptr<UcxContext>& context, Loop& loop)
      : fabric_(make_ucx_fabric(context, loop, {std::string(), "sessions"}).value()) {
    fabric_->set_receiver(*this);
  }
  [[nodiscard]] Fabric& fabric() noexcept { return *fabric_; }
  void own(PeerId peer, Receiver* owner) { owners_[peer.value] = owner; }
  void forget(PeerId peer) { owners_.erase(peer.value); }

  void on_message(PeerId peer, std::span<const std::byte> frame, Payload payload) override {
    const auto found = owners_.find(peer.value);
    if (found != owners_.end()) found->second->on_message(peer, frame, std::move(payload));
  }
  void on_lost(PeerId peer, const Error& why) override {
    const auto found = owners_.find(peer.value);
    if (found == owners_.end()) return;
    Receiver* const owner = found->second;
    owners_.erase(found);
    owner->on_lost(peer, why);
  }

 private:
  std::unique_ptr<Fabric> fabric_;
  std::unordered_map<std::uint64_t, Receiver*> owners_;
};

/// A hub's fabric as one of its owners sees it.
class Share final : public Fabric {
 public:
  explicit Share(Hub& hub) noexcept : hub_(hub) {}

  Loop& loop() noexcept override { return hub_.fabric().loop(); }
  void set_receiver(Receiver& receiver) noexcept override { receiver_ = &receiver; }
  Result<Address> listen(const Address& address) override { return hub_.fabric().listen(address); }
  Task<Result<PeerId>> connect(Address address, TimePoint deadline) override {
    Task<Result<PeerId>> connecting = hub_.fabric().connect(std::move(address), deadline);
    Result<PeerId> peer = co_await connecting;
    if (peer) hub_.own(*peer, receiver_);
    co_return std::move(peer);
  }
  Result<> send(PeerId peer, std::span<const std::byte> frame) override {
    return hub_.fabric().send(peer, frame);
  }
  void send(PeerId peer, std::span<const std::byte> frame, std::span<const Segment> payload,
            Completion& done) override {
    hub_.fabric().send(peer, frame, payload, done);
  }
  void receive(Payload payload, std::span<const Segment> into, Completion& done) override {
    hub_.fabric().receive(std::move(payload), into, done);
  }
  Task<> close(PeerId peer) override {
    hub_.forget(peer);
    return hub_.fabric().close(peer);
  }
  Result<std::unique_ptr<Region>> register_memory(std::span<std::byte> memory) override {
    return hub_.fabric().register_memory(memory);
  }
  std::string_view lane(PeerId peer) const noexcept override { return hub_.fabric().lane(peer); }
  std::string route(PeerId peer) const override { return hub_.fabric().route(peer); }
  std::array<std::byte, 32> binding(PeerId peer) const noexcept override {
    return hub_.fabric().binding(peer);
  }

 private:
  void discard(std::uint64_t) noexcept override {}  // payloads name the hub's fabric

  Hub& hub_;
  Receiver* receiver_ = nullptr;
};

double milliseconds(Duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

/// What all clients have in common.
struct Load {
  ClientConfig config;
  std::vector<BlockHash> hashes;
  bool over = false;
  std::vector<double> lookup_ms;
  std::vector<double> small_ms;
  std::uint64_t failed = 0;  ///< calls
};

/// One client.
class Party {
 public:
  Party(Load& load, Hub& hub)
      : load_(load), control_(hub), data_(hub), client_(control_, data_, load.config, "") {}

  /// The term in which it last found all blocks; 0: none.
  [[nodiscard]] std::uint64_t settled_in() const noexcept { return settled_in_; }

  /// Until the load is over: a lookup, and a small request as a heartbeat is, once a second.
  Task<> run(Duration begin) {
    Loop& loop = control_.loop();
    const TimePoint opens = loop.now() + begin;
    co_await loop.sleep_until(opens);
    Task<Result<>> starting = client_.start();
    const Result<> started = co_await starting;
    if (!started) give_up("no session");
    Namespace space;
    space.model = "sessions bench";
    Task<Result<OpenedNamespace>> opening = client_.open_namespace(space);
    const Result<OpenedNamespace> opened = co_await opening;
    if (!opened) give_up("no namespace");
    space_ = *opened;
    TimePoint next = loop.now();
    while (!load_.over) {
      co_await loop.sleep_until(next);
      Task<> asked = ask();
      co_await asked;
      next = loop.now() + (settled_in_ != 0 ? kBetweenLookups : kBetweenAttempts);
    }
    Task<> stopped = client_.stop();
    co_await stopped;
  }

 private:
  [[noreturn]] static void give_up(const char* why) {
    std::fprintf(stderr, "sessions_load: %s\n", why);
    std::exit(1);
  }

  Task<> ask() {
    LookupOptions options;
    options.timeout = kOneLookup;
    std::vector<BlockHash> hashes = load_.hashes;
    const TimePoint began = control_.loop().clock().now();
    Task<Result<Match>> looking = client_.lookup(space_, std::move(hashes), options);
    const Result<Match> found = co_await looking;
    note(load_.lookup_ms, began, found.has_value());
    const TimePoint middle = control_.loop().clock().now();
    Task<Result<std::map<std::string, std::uint64_t>>> asking = client_.server_stats();
    const Result<std::map<std::string, std::uint64_t>> stats = co_await asking;
    note(load_.small_ms, middle, stats.has_value());
    const bool good = found && stats && found->prefix_blocks() == kBlocks;
    settled_in_ = good ? stats->at("epoch") : 0;
  }
  void note(std::vector<double>& times, TimePoint began, bool good) {
    load_.failed += good ? 0 : 1;
    if (good) times.push_back(milliseconds(control_.loop().clock().now() - began));
  }

  Load& load_;
  Share control_;
  Share data_;
  ClientCore client_;
  OpenedNamespace space_;
  std::uint64_t settled_in_ = 0;
};

double quantile(std::vector<double>& times, double part) {
  if (times.empty()) return 0;
  const auto at = static_cast<std::size_t>(part * static_cast<double>(times.size() - 1));
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(at), times.end());
  return times[at];
}

Load load_for(const char* servers) {
  Load load;
  load.config.server = servers;
  load.config.connect_timeout = std::chrono::seconds(10);
  for (std::uint64_t number = 0; number < kBlocks; ++number) {
    load.hashes.push_back(BlockHash::from(std::as_bytes(std::span(&number, 1))).value());
  }
  return load;
}

/// Turns the loop until `done`; false if that takes too long.
template <class Done>
bool turn_until(Loop& loop, const Done& done) {
  const TimePoint patience = loop.clock().now() + kPatience;
  while (!done()) {
    if (loop.clock().now() > patience) return false;
    if (!loop.turn()) loop.wait(std::chrono::milliseconds(1));
  }
  return true;
}

/// The term in which all have found their blocks, 0: not all have, or in several.
std::uint64_t common_term(const std::vector<std::unique_ptr<Party>>& parties) {
  const std::uint64_t term = parties.front()->settled_in();
  const bool same = std::ranges::all_of(
      parties, [term](const auto& party) { return party->settled_in() == term; });
  return same ? term : 0;
}

void print(Load& load, std::size_t sessions, double opened_ms) {
  std::printf(
      "{\"sessions\": %zu, \"opened_ms\": %.0f, \"lookups\": %zu, \"failed\": %llu, "
      "\"lookup_p50_ms\": %.2f, \"lookup_p99_ms\": %.2f, \"small_p50_ms\": %.2f, "
      "\"small_p99_ms\": %.2f}\n",
      sessions, opened_ms, load.lookup_ms.size(), static_cast<unsigned long long>(load.failed),
      quantile(load.lookup_ms, 0.5), quantile(load.lookup_ms, 0.99), quantile(load.small_ms, 0.5),
      quantile(load.small_ms, 0.99));
  std::fflush(stdout);
}

int run(const char* servers, std::size_t count, std::chrono::seconds steady) {
  SteadyClock clock;
  Loop loop(clock);
  Load load = load_for(servers);
  const std::shared_ptr<UcxContext> context = UcxContext::create({}).value();
  std::vector<std::unique_ptr<Hub>> hubs;
  std::vector<std::unique_ptr<Party>> parties;
  const TimePoint began = clock.now();
  for (std::size_t i = 0; i < count; ++i) {
    if (i % kSessionsOfAFabric == 0) hubs.push_back(std::make_unique<Hub>(context, loop));
    parties.push_back(std::make_unique<Party>(load, *hubs.back()));
    loop.spawn(parties.back()->run(kBetweenOpenings * static_cast<std::int64_t>(i)));
  }
  if (!turn_until(loop, [&] { return common_term(parties) != 0; })) return 1;
  const double opened_ms = milliseconds(clock.now() - began);
  const std::uint64_t term = common_term(parties);
  load.lookup_ms.clear();
  load.small_ms.clear();
  load.failed = 0;
  const TimePoint until = clock.now() + steady;
  if (!turn_until(loop, [&] { return clock.now() >= until; })) return 1;
  print(load, count, opened_ms);
  if (!turn_until(loop, [&] { return common_term(parties) > term; })) return 1;
  std::printf("{\"settled\": true}\n");
  std::fflush(stdout);
  load.over = true;
  return turn_until(loop, [&] { return loop.running_tasks() == 0; }) ? 0 : 1;
}

}  // namespace
}  // namespace membrain

int main(int count, char** words) {
  if (count != 4) {
    std::fprintf(stderr, "usage: sessions_load SERVERS SESSIONS SECONDS\n");
    return 2;
  }
  ::setenv("UCX_TLS", "tcp,self", 1);  // as sessions of other hosts
  membrain::set_log_level(membrain::LogLevel::error);
  return membrain::run(words[1], std::strtoul(words[2], nullptr, 10),
                       std::chrono::seconds(std::strtoul(words[3], nullptr, 10)));
}
