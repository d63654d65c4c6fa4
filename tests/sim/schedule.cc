#include "tests/sim/schedule.h"

#include <fmt/format.h>

#include <utility>

namespace membrain::sim {

namespace {
constexpr std::size_t kMostRounds = 2000;
constexpr Duration kSlow = std::chrono::milliseconds(40);
}  // namespace

void Counts::add(const Counts& other) {
  for (const auto member :
       {&Counts::lookups, &Counts::blocks_hit, &Counts::fetched, &Counts::read_from_afar,
        &Counts::mapped, &Counts::viewed, &Counts::stale_views, &Counts::missed, &Counts::stored,
        &Counts::not_stored, &Counts::clears, &Counts::copied, &Counts::terms, &Counts::events}) {
    this->*member += other.*member;
  }
  for (const auto& [kind, times] : other.faults) fault(kind, times);
  for (const auto& [what, times] : other.met) meet(what, times);
}

Schedule::Schedule(const Plan& plan) : plan_(plan), cluster_(plan), engines_(plan.clients) {
  cluster_.network().set_witness([this](auto fate, auto frame) { witness(fate, frame); });
  if (plan.rogue > 0) rogue_ = std::make_unique<Rogue>(cluster_, ledger_);
}

Schedule::~Schedule() {
  rogue_.reset();
  for (const auto& engine : engines_) {
    if (engine) engine->doom(), engine->release_all();
  }
  cluster_.end();  // engines are at work until then
}

std::vector<std::string> Schedule::run() {
  const auto enough = [this](std::size_t round) {
    const bool much = cluster_.network().stats().events >= plan_.least_events;
    return round >= kMostRounds || (round >= plan_.rounds && much);
  };
  for (std::size_t round = 0; !enough(round); ++round) {
    engage_idle_clients();
    draw_faults();
    if (!pass(kRound)) break;
  }
  count_faults();
  if (!ledger_.violations().empty()) return ledger_.violations();
  cluster_.heal();
  check_life_goes_on();
  if (ledger_.violations().empty()) check_quiet();
  ledger_.check_watched();
  ledger_.counts.events = cluster_.network().stats().events;
  return ledger_.violations();
}

/// Of what is lost and repeated, that which a protocol is most likely to stumble over.
void Schedule::witness(SimNetwork::Fate fate, std::span<const std::byte> bytes) {
  const Result<wire::Frame> frame = wire::read_frame(bytes);
  if (!frame) return;
  const bool lost = fate == SimNetwork::Fate::lost;
  const wire::Type type = frame->header.type;
  if (lost && type == wire::Type::found) ledger_.counts.meet("a lookup's answer lost");
  if (!lost && type == wire::Type::free_slots) ledger_.counts.meet("a free repeated");
}

/// What the network and coordination did by their own luck.
void Schedule::count_faults() {
  const SimStats& stats = cluster_.network().stats();
  ledger_.counts.events = stats.events;
  ledger_.counts.fault("message lost", stats.lost);
  ledger_.counts.fault("message repeated", stats.duplicated);
  ledger_.counts.fault("message overtaken", stats.reordered);
  ledger_.counts.fault("connection reset", stats.resets);
  ledger_.counts.fault("bit flipped", stats.flipped);
  ledger_.counts.fault("coordination call lost", cluster_.coordinator().lost);
  ledger_.counts.fault("namespace cleared", ledger_.counts.clears);
  if (!rivals_.empty()) ledger_.counts.meet("two who believed that they lead", rivals_.size());
}

/// Every client that nobody drives gets an engine; one that never got a session gets a new life.
void Schedule::engage_idle_clients() {
  for (std::size_t i = 0; i < plan_.clients; ++i) {
    if (engines_[i] && engines_[i]->failed()) {
      cluster_.kill_client(i);
      retired_.push_back(std::move(engines_[i]));
    }
    if (!cluster_.client(i)) cluster_.start_client(i), engines_[i] = nullptr;
    if (engines_[i]) continue;
    engines_[i] = std::make_shared<Engine>(cluster_, cluster_.client(i), ledger_, plan_.clear);
    cluster_.client(i)->loop.spawn(engines_[i]->live());
  }
}

void Schedule::draw_faults() {
  kill_something();
  cut_something();
  cut_coordination();
  move_shards();
  if (rogue_ && chance(plan_.rogue)) rogue_->try_something();
}

void Schedule::kill_something() {
  if (chance(plan_.kill_node)) {
    cluster_.kill_node(draw(plan_.nodes));
    ledger_.counts.fault("node killed");
  }
  if (chance(plan_.leave)) {
    cluster_.leave_node(draw(plan_.nodes));
    ledger_.counts.fault("node told to leave");
  }
  if (chance(plan_.rot) && cluster_.rot(draw(plan_.nodes))) {
    ledger_.counts.fault("bit flipped while a node was down");
  }
  if (chance(plan_.kill_server)) {
    cluster_.kill_server(draw(plan_.servers));
    ledger_.counts.fault("server killed");
  }
  if (chance(plan_.kill_client)) {
    const std::size_t index = draw(plan_.clients);
    if (engines_[index]) {
      engines_[index]->doom();
      retired_.push_back(std::move(engines_[index]));
    }
    cluster_.kill_client(index);
    ledger_.counts.fault("client killed");
  }
  // What is down comes back after a while, in any order.
  for (std::size_t i = 0; i < plan_.servers; ++i) {
    if (draw(3) == 0) cluster_.start_server(i);
  }
  for (std::size_t i = 0; i < plan_.nodes; ++i) {
    if (draw(3) == 0) cluster_.start_node(i);
  }
}

void Schedule::cut_something() {
  SimNetwork& network = cluster_.network();
  const std::string node = fmt::format("node{}", draw(plan_.nodes));
  const std::string client = fmt::format("client{}", draw(plan_.clients));
  const std::string server = fmt::format("server{}", draw(plan_.servers));
  const std::string some[] = {server, node, client};
  if (chance(plan_.partition)) {
    const std::size_t first = draw(3);
    const bool both = draw(2) == 0;
    network.partition_one_way(some[first], some[(first + 1) % 3], true);
    if (both) network.partition_one_way(some[(first + 1) % 3], some[first], true);
    ledger_.counts.fault(both ? "partition" : "partition one way");
  }
  if (chance(plan_.pause)) {
    constexpr std::string_view kPaused[] = {"server paused", "node paused", "client paused"};
    const std::size_t which = draw(3);
    network.pause(some[which]);
    if (plan_.nap_rounds > 0) naps_[some[which]] = plan_.nap_rounds;
    if (which == 0) ledger_.counts.meet("a server paused");
    if (which == 2 && reads(some[which])) ledger_.counts.meet("a reader paused amid its reading");
    ledger_.counts.fault(kPaused[which]);
  }
  if (chance(plan_.slow)) {
    network.slow_down(some[draw(3)], kSlow);
    ledger_.counts.fault("process slowed");
  }
  if (draw(2) == 0) network.heal_partitions();
  if (plan_.end_lease > 0) tempt();
  wake_nappers();
  for (const std::string& process : some) {
    if (draw(2) == 0 && !naps_.contains(process)) network.resume(process);
    if (plan_.slow > 0 && draw(2) == 0) network.slow_down(process, {});
  }
}

bool Schedule::reads(const std::string& client) const {
  for (std::size_t i = 0; i < engines_.size(); ++i) {
    if (client == fmt::format("client{}", i)) return engines_[i] && engines_[i]->reading();
  }
  return false;
}

void Schedule::wake_nappers() {
  for (auto next = naps_.begin(); next != naps_.end();) {
    const auto nap = next++;
    if (--nap->second > 0) continue;
    cluster_.network().resume(nap->first);
    naps_.erase(nap);
  }
}

/// Coordination fails for one server, or for all.
void Schedule::cut_coordination() {
  SimCoordinator& coordinator = cluster_.coordinator();
  if (chance(plan_.no_quorum)) {
    coordinator.quorum = false;
    ledger_.counts.fault("coordination without quorum");
  }
  if (!coordinator.quorum && draw(2) == 0) coordinator.quorum = true;
  if (plan_.end_lease > 0 && chance(plan_.end_lease)) end_lease(draw(plan_.servers));
  for (std::size_t i = 0; i < plan_.servers; ++i) {
    ServerLife* const server = cluster_.server(i);
    if (server == nullptr) continue;
    if (chance(plan_.cut_coordination)) {
      server->coordination.cut_off(true);
      ledger_.counts.fault("server cut off from coordination");
    } else if (draw(3) == 0) {
      server->coordination.cut_off(false);
    }
  }
}

/// Some servers do not hear of it before they would have renewed it in vain.
void Schedule::end_lease(std::size_t index) {
  if (!cluster_.coordinator().quorum || !cluster_.end_lease(index)) return;
  ledger_.counts.fault("lease of a living server ended");
  ServerLife* const server = cluster_.server(index);
  if (server != nullptr && draw(2) == 0) server->coordination.cut_off(true);
}

/// Some who may have heard of the later leader meet only the one that was deposed: the others die,
/// or cannot be reached.
void Schedule::tempt() {
  const auto led = cluster_.leaders();
  const auto deposed = std::ranges::find_if(led, [](const auto& one) { return one.deposed; });
  if (deposed == led.end() || draw(2) == 0) return;
  const bool die = draw(2) == 0;
  const std::string some[] = {fmt::format("node{}", draw(plan_.nodes)),
                              fmt::format("client{}", draw(plan_.clients))};
  for (std::size_t i = 0; i < plan_.servers; ++i) {
    if (leads(i, deposed->shard)) continue;
    if (die) {
      cluster_.kill_server(i);
      continue;
    }
    const std::string server = fmt::format("server{}", i);
    for (const std::string& process : some) {
      cluster_.network().reset_connections(process, server);
      cluster_.network().partition(process, server, true);
    }
  }
  ledger_.counts.fault("only a deposed leader to be reached");
}

bool Schedule::leads(std::size_t server, const Shard* shard) {
  bool is_it = false;
  if (cluster_.server(server) == nullptr) return false;
  cluster_.server(server)->for_each_led(
      [&](const LedShard& one) { is_it = is_it || &one.service().shard() == shard; });
  return is_it;
}

/// Somebody wants shards elsewhere, or smaller ones.
void Schedule::move_shards() {
  const std::optional<ShardMap> map = cluster_.map();
  if (!map) return;
  const ShardId shard = map->shard(draw(map->count()));
  if (chance(plan_.move_shard)) {
    cluster_.wish_leader(shard, draw(plan_.servers));
    ledger_.counts.fault("shard wanted elsewhere");
  }
  if (chance(plan_.split_shard) && map->count() < kMostShards) {
    cluster_.wish_split(shard);
    ledger_.counts.fault("shard to be split");
  }
}

bool Schedule::pass(Duration time) {
  const TimePoint end = cluster_.clock().now() + time;
  while (cluster_.clock().now() < end) {
    if (!cluster_.network().step()) cluster_.clock().set(end);
    cluster_.let_leases_end();
    check_event();
    if (!ledger_.violations().empty()) return false;
  }
  cluster_.bury();
  std::erase_if(retired_, [](const auto& engine) { return engine->buried(); });
  return true;
}

}  // namespace membrain::sim
