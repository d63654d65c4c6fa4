// What must be true of a schedule after every event, and when everything is quiet.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "tests/sim/schedule.h"

namespace membrain::sim {

namespace {

constexpr Duration kSettle = std::chrono::seconds(20);
constexpr Duration kMend = std::chrono::seconds(60);
constexpr Duration kCopying = std::chrono::seconds(2);  ///< far longer than a copy takes
constexpr std::size_t kHealedRounds = 4;

}  // namespace

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
  if (cluster_.network().stats().events % 16 == 0) fences_.check();
  if (cluster_.network().stats().events % 256 == 0) ledger_.check_watched();
}

void Schedule::check_ranges(const std::vector<Cluster::Led>& led) {
  for (std::size_t i = 0; i < led.size(); ++i) {
    const KeyRange range = led[i].shard->params().term.range;
    for (std::size_t j = 0; j < i; ++j) {
      const KeyRange other = led[j].shard->params().term.range;
      const Epoch one = led[i].shard->epoch();
      const Epoch another = led[j].shard->epoch();
      if (one == another) {
        ledger_.violation("S3: two servers lead in one epoch");
      } else if (led[i].deposed || led[j].deposed) {
        // What comes of it is checked, not what they believe.
        if (led[i].id == led[j].id) rivals_.insert(std::minmax(one, another));
      } else if (led[i].id == led[j].id) {
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
  // What was cleared is owed to nobody in a later term, whatever a deposed leader has pinned.
  if (!led.deposed) check_slots(*led.shard);
  if (!led.deposed || !cluster_.cleared_since(led)) holdings_.check(led, engines_);
  note_term(led);
  check_eras(led);
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
  if (led.deposed && now.epoch < last.epoch) return;
  if (now.epoch == last.epoch) ledger_.violation("S3: a term has begun twice");
  if (now.epoch < last.epoch) ledger_.violation("S3: an epoch that was over leads again");
  last = now;
  ++ledger_.counts.terms;
  fences_.begun(led.id, now.epoch);
}

/// S3: an era is never followed by an earlier one, whoever leads.
void Schedule::check_eras(const Cluster::Led& led) {
  if (led.deposed) return;
  fences_.check_eras(led);
  const Namespaces& spaces = led.shard->namespaces();
  for (SpaceIndex i = 0; i < spaces.count(); ++i) {
    const Space& space = spaces[i];
    if (eras_[space.id].note(led.shard->params().term.range, space.era)) continue;
    ledger_.violation(
        fmt::format("S3: shard {} went back to era {}", led.id.value, space.era.value));
  }
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
  check_catalog();
  for (std::size_t i = 0; i < plan_.nodes; ++i) {
    if (const Result<> sound = cluster_.node(i)->service.check_invariants(); !sound) {
      ledger_.violation(fmt::format("node: {}", sound.error().context));
    }
  }
  if (!ledger_.violations().empty()) return;
  switch (draw(4)) {
    case 0:
      return check_dead_node();
    case 1:
      return check_leaver();
    default:
      return;
  }
}

/// The shards know what the nodes have, and nothing else. Copies are made in the quiet, too: a
/// moment between them is waited for.
void Schedule::check_catalog() {
  const TimePoint end = cluster_.clock().now() + kCopying;
  std::string differs = catalog_differs(cluster_);
  while (!differs.empty() && cluster_.clock().now() < end) {
    if (!pass(std::chrono::milliseconds(1))) return;
    differs = catalog_differs(cluster_);
  }
  if (!differs.empty()) ledger_.violation("S4: " + differs);
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

/// A node that says that it may go takes no block with it. Where the others have no room it does
/// not say so.
void Schedule::check_leaver() {
  if (plan_.nodes < 2 || !cluster_.all_led()) return;
  const std::size_t index = draw(plan_.nodes);
  const std::uint64_t before = block_count();
  cluster_.leave_node(index);
  if (!pass(std::chrono::seconds(3))) return;
  if (!cluster_.node(index)->service.status().drained()) return;
  ledger_.counts.fault("node drained");
  cluster_.kill_node(index);
  if (!pass(std::chrono::seconds(2))) return;
  if (block_count() != before) {
    ledger_.violation(
        fmt::format("liveness: a node left, and of {} blocks {} are left", before, block_count()));
  }
}

std::uint64_t Schedule::block_count() const {
  std::uint64_t count = 0;
  for (const Cluster::Led& led : cluster_.leaders()) count += led.shard->catalog().counts().blocks;
  return count;
}

}  // namespace membrain::sim
