#include "tests/sim/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

namespace membrain::sim {

namespace {
constexpr Duration kRound = std::chrono::milliseconds(60);
constexpr Duration kSettle = std::chrono::seconds(20);
constexpr Duration kMend = std::chrono::seconds(60);
constexpr std::size_t kHealedRounds = 10;
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
}

Schedule::Schedule(const Plan& plan) : plan_(plan), cluster_(plan), engines_(plan.clients) {}

Schedule::~Schedule() {
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
}

void Schedule::kill_something() {
  if (chance(plan_.kill_node)) {
    cluster_.kill_node(draw(plan_.nodes));
    ledger_.counts.fault("node killed");
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
    ledger_.counts.fault(kPaused[which]);
  }
  if (chance(plan_.slow)) {
    network.slow_down(some[draw(3)], kSlow);
    ledger_.counts.fault("process slowed");
  }
  if (draw(2) == 0) network.heal_partitions();
  wake_nappers();
  for (const std::string& process : some) {
    if (draw(2) == 0 && !naps_.contains(process)) network.resume(process);
    if (plan_.slow > 0 && draw(2) == 0) network.slow_down(process, {});
  }
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

/// Somebody wants shards elsewhere, or smaller ones.
void Schedule::move_shards() {
  constexpr std::size_t kMostShards = 5;
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
  return true;
}

template <class Done>
bool Schedule::pass_until(Done done, Duration at_most, const char* what) {
  const TimePoint end = cluster_.clock().now() + at_most;
  while (!done()) {
    if (cluster_.clock().now() >= end) {
      ledger_.violation(fmt::format("liveness: {}{}", what, who_pins()));
      return false;
    }
    if (!pass(std::chrono::milliseconds(1))) return false;
  }
  return true;
}

void Schedule::check_event() {
  cluster_.leaders(led_);
  check_ranges(led_);
  const std::uint64_t nodes = fingerprint_of_nodes();
  for (const Cluster::Led& one : led_) check_shard(one, nodes);
  if (cluster_.network().stats().events % 256 == 0) ledger_.check_watched();
}

void Schedule::check_ranges(const std::vector<Cluster::Led>& led) {
  for (std::size_t i = 0; i < led.size(); ++i) {
    const KeyRange range = led[i].shard->params().term.range;
    for (std::size_t j = 0; j < i; ++j) {
      const KeyRange other = led[j].shard->params().term.range;
      if (led[i].id == led[j].id) {
        ledger_.violation("S3: two servers lead the shard");
      } else if (range.first <= other.last && other.first <= range.last) {
        ledger_.violation("S3: a key is two shards'");
      }
    }
  }
}

void Schedule::check_shard(const Cluster::Led& led, std::uint64_t nodes) {
  const std::uint64_t state = fingerprint(*led.shard) ^ nodes;
  const bool looked = std::exchange(last_states_[led.id], state) == state;
  // The same as after the event before, as far as numbers tell: all of it is looked at less often.
  if (looked && cluster_.network().stats().events % 16 != 0) return;
  if (const std::string broken = led.shard->check_invariants(); !broken.empty()) {
    ledger_.violation("shard: " + broken);
  }
  check_slots(*led.shard);
  holdings_.check(led, engines_);
  note_term(led);
}

/// Another one whenever a slot of a living node has changed.
std::uint64_t Schedule::fingerprint_of_nodes() {
  std::uint64_t sum = 0;
  const auto add = [&sum](std::uint64_t number) { sum = sum * 0x9e3779b97f4a7c15u + number; };
  for (std::size_t i = 0; i < plan_.nodes; ++i) {
    NodeLife* const node = cluster_.node(i);
    if (node == nullptr) continue;
    add(node->arena->generations().load()), add(node->arena->incarnation().value);
  }
  return sum;
}

/// Another one whenever the shard has changed.
std::uint64_t Schedule::fingerprint(const Shard& shard) const {
  std::uint64_t sum = shard.epoch().value;
  const auto add = [&sum](std::uint64_t number) { sum = sum * 0x9e3779b97f4a7c15u + number; };
  const ShardTotals& totals = shard.totals();
  const CatalogCounts& counts = shard.catalog().counts();
  for (const std::uint64_t number :
       {totals.lookups, totals.published, totals.duplicates, totals.evicted, totals.corrupt,
        totals.cleared, totals.sessions_expired, totals.nodes_lost}) {
    add(number);
  }
  add(counts.blocks), add(counts.replicas), add(counts.pinned_blocks), add(counts.bytes);
  add(shard.pin_count()), add(shard.sessions().all().size());
  return sum;
}

/// S3: terms follow each other, and each begins once.
void Schedule::note_term(const Cluster::Led& led) {
  const LastTerm now{led.shard->epoch(), led.shard->params().start};
  LastTerm& last = last_terms_[led.id];
  if (now.epoch == last.epoch && now.start == last.start) return;
  if (now.epoch == last.epoch) ledger_.violation("S3: a term has begun twice");
  if (now.epoch < last.epoch) ledger_.violation("S3: an epoch that was over leads again");
  last = now;
  ++ledger_.counts.terms;
}

/// S2: what the shard has pinned for a live session on a node that lives its current life is still
/// sealed there under the same generation.
void Schedule::check_slots(const Shard& shard) {
  shard.for_each_pinned([&](const Location& at) {
    for (std::size_t i = 0; i < plan_.nodes; ++i) {
      NodeLife* node = cluster_.node(i);
      if (node == nullptr || node->arena->node() != at.node) continue;
      if (node->arena->incarnation() != at.incarnation) continue;
      const Seal& seal = node->arena->seal(at.slot);
      if (seal.state.load() != Seal::sealed || seal.generation.load() != at.generation.value) {
        ledger_.violation(fmt::format("S2: slot {} of node {} was reused under a pin",
                                      at.slot.value, at.node.value));
      }
    }
  });
}

bool Schedule::all_resting() const {
  for (const auto& engine : engines_) {
    if (engine && !engine->ended()) return false;
  }
  return true;
}

/// After healing, every client finishes what it does, and new work succeeds.
void Schedule::check_life_goes_on() {
  for (std::size_t round = 0; round < kHealedRounds; ++round) {
    engage_idle_clients();
    if (!pass(kRound)) return;
  }
  const std::uint64_t stored = ledger_.counts.stored;
  const std::uint64_t fetched = ledger_.counts.fetched;
  // Where everything has been stored already, nothing would be: there is new work. And an engine
  // whose first connection failed comes again, as engines do.
  const auto both_grew = [&] {
    engage_idle_clients();
    for (const auto& engine : engines_) engine->change_topic();
    return ledger_.counts.stored > stored && ledger_.counts.fetched > fetched;
  };
  if (!pass_until(both_grew, kSettle, "nothing was stored and fetched after healing")) return;
  for (const auto& engine : engines_) engine->rest();
  if (!pass_until([&] { return all_resting(); }, kSettle, "a client's operation never ended"))
    return;
  check_replicas();
}

/// Where there is room, every block comes to have as many replicas as are wanted.
void Schedule::check_replicas() {
  const auto mended = [&] {
    return cluster_.all_led() && std::ranges::all_of(cluster_.leaders(), [](const auto& led) {
             return led.shard->copies().degraded() == 0;
           });
  };
  if (plan_.roomy && !pass_until(mended, kMend, "blocks have too few replicas")) return;
  for (const Cluster::Led& led : cluster_.leaders()) {
    ledger_.counts.copied += led.shard->copies().totals().copied;
  }
}

/// For the reader of a violation: what each session pins, and what each engine holds.
std::string Schedule::who_pins() {
  std::string text;
  if (!cluster_.all_led()) text += "\n  not every shard is led" + cluster_.who_stands();
  for (const Cluster::Led& led : cluster_.leaders()) {
    for (const auto& [id, session] : led.shard->sessions().all()) {
      text += fmt::format("\n  shard {} session {:x} ({}, asserting {}):", led.id.value, id.value,
                          session.connected ? "connected" : "cut off", session.asserting);
      for (const auto& [lookup, pinned] : session.lookups) {
        text += fmt::format(" lookup {} pins {}", lookup.value, pinned.entries.size());
      }
    }
  }
  for (const auto& engine : engines_) text += fmt::format("\n  engine holds {}", engine->held());
  return text;
}

/// S4: whatever is pinned is held by a live client; and where no replica was ever lost, every block
/// that a client holds is pinned. (A lookup answered twice pins what either answer found.)
bool Schedule::pins_equal_holders() {
  std::multiset<std::uint64_t> held;
  std::uint64_t held_blocks = 0;
  for (const auto& engine : engines_) {
    for (const LookupId lookup : engine->held_lookups()) held.insert(lookup.value);
    held_blocks += engine->held_blocks();
  }
  if (!cluster_.all_led()) return false;
  std::uint64_t pins = 0;
  for (const Cluster::Led& led : cluster_.leaders()) {
    std::multiset<std::uint64_t> unpinned = held;  // a lookup may pin in several shards
    for (const auto& [id, session] : led.shard->sessions().all()) {
      for (const auto& [lookup, pinned] : session.lookups) {
        const auto holder = unpinned.find(lookup.value);
        if (pinned.entries.empty()) continue;
        if (holder == unpinned.end()) return false;
        unpinned.erase(holder);
      }
    }
    pins += led.shard->pin_count();
  }
  const bool replicas_may_be_lost = plan_.kill_node > 0 || plan_.kill_server > 0 ||
                                    plan_.servers > 1 || plan_.clear > 0 ||
                                    plan_.faults.bit_flip > 0;
  return replicas_may_be_lost || pins == held_blocks;
}

void Schedule::check_quiet() {
  if (!pass(std::chrono::seconds(4))) return;  // sessions of the dead expire, unpins are sent
  if (!pins_equal_holders()) {
    return ledger_.violation("S4: pins do not equal live holders" + who_pins());
  }
  const auto pins = [&] {
    std::size_t count = cluster_.all_led() ? 0 : SIZE_MAX;
    for (const Cluster::Led& led : cluster_.leaders()) count += led.shard->pin_count();
    return count;
  };
  for (const auto& engine : engines_) engine->release_all();
  if (!pass(std::chrono::seconds(2))) return;
  if (pins() != 0) ledger_.violation(fmt::format("S4: {} pins leaked", pins()));
  if (const std::string differs = catalog_differs(cluster_); !differs.empty()) {
    ledger_.violation("S4: " + differs);
  }
  for (std::size_t i = 0; i < plan_.nodes; ++i) {
    if (const Result<> sound = cluster_.node(i)->service.check_invariants(); !sound) {
      ledger_.violation(fmt::format("node: {}", sound.error().context));
    }
  }
  if (ledger_.violations().empty() && draw(4) == 0) check_dead_node();
}

/// What is on a node that has died is in no answer any more, soon.
void Schedule::check_dead_node() {
  const std::size_t index = draw(plan_.nodes);
  const NodeId node = cluster_.node(index)->arena->node();
  cluster_.kill_node(index);
  if (!pass(std::chrono::seconds(2))) return;
  if (in_answers(cluster_, node)) {
    ledger_.violation(fmt::format("liveness: node {} is dead and still in answers", node.value));
  }
}

}  // namespace membrain::sim
