#include "tests/sim/holdings.h"

#include <fmt/format.h>

#include <algorithm>

namespace membrain::sim {

namespace {

/// The shard has pinned something for this client's lookup.
bool pins(const Shard& shard, const std::string& label, LookupId lookup) {
  return std::ranges::any_of(shard.sessions().all(), [&label, lookup](const auto& session) {
    if (session.second.label != label) return false;
    const auto found = session.second.lookups.find(lookup);
    return found != session.second.lookups.end() && !found->second.entries.empty();
  });
}

/// The client's session there goes on with other things than what it held before.
bool came_back(const Shard& shard, const std::string& label) {
  return std::ranges::any_of(shard.sessions().all(), [&label](const auto& session) {
    const Session& one = session.second;
    return one.label == label && one.connected && !one.asserting;
  });
}

/// The shard knows this use of the slot.
bool has(const Shard& shard, const Location& at) {
  const NodeIndex node = shard.nodes().find(at.node);
  const Ref replica = node == Nodes::kNoNode ? kNoRef : shard.catalog().replica_at(node, at.slot);
  return replica != kNoRef && shard.catalog().replica(replica).generation == at.generation;
}

bool cleared(const Shard& shard, const Match::State& match) {
  const SpaceIndex space = shard.namespaces().find(match.space);
  return space == kNoSpace || shard.namespaces()[space].era != match.era;
}

}  // namespace

void Holdings::check(const Cluster::Led& led, std::span<const std::shared_ptr<Engine>> engines) {
  const KeyRange range = led.shard->params().term.range;
  const std::uint64_t expired = led.shard->totals().sessions_expired;
  const auto [seen, first] = expired_.try_emplace(led.shard->epoch(), expired);
  const bool calm = !first && seen->second == expired;
  seen->second = expired;
  for (const std::shared_ptr<Engine>& engine : engines) {
    if (!engine) continue;
    for (HeldMatch& held : engine->held_matches()) {
      const Match::State& match = *held.match.state();
      if (match.claims.empty()) {
        ledger_.violation(fmt::format("S4: {} found blocks and pins none", engine->name()));
        continue;
      }
      const bool over = cleared(*led.shard, match);
      const bool pinned = pins(*led.shard, engine->name(), match.claims.front().lookup);
      for (std::size_t block = 0; block < held.promises.size(); ++block) {
        if (range.has(match.keys[block]))
          check_block(led, *engine, held, block, {pinned, calm, over});
      }
    }
  }
}

void Holdings::check_block(const Cluster::Led& led, const Engine& engine, HeldMatch& held,
                           std::size_t block, const Surroundings& now) {
  Promise& promise = held.promises[block];
  const Places places = places_of(*led.shard, *held.match.state(), block);
  const Epoch epoch = led.shard->epoch();
  if (promise.in > epoch) return;  // of a leader that has followed this one
  const bool same_term = promise.in == epoch;
  const bool next_term = promise.in && !same_term && led.shard->in_grace(cluster_.clock().now());
  const bool given_away = (places.lost & promise.replicas).any();
  if (given_away && ((same_term && now.pinned && !now.cleared) || next_term)) {
    ledger_.violation(fmt::format("S2: {} holds block {} of lookup {}, and its slot was given away",
                                  engine.name(), block,
                                  held.match.state()->claims.front().lookup.value));
  }
  if (now.cleared) {  // whoever comes back cannot say that it holds it
    if (same_term) promise.replicas &= places.there;
    if (!same_term && !next_term) promise = {};
    return;
  }
  if (same_term && !now.pinned && now.calm) {
    ledger_.violation(fmt::format("S4: {} holds lookup {}, and its pin is gone", engine.name(),
                                  held.match.state()->claims.front().lookup.value));
  }
  if (next_term && !now.pinned) {
    if (places.there.any() && came_back(*led.shard, engine.name())) {
      ledger_.violation(fmt::format("S4: {} came back to shard {} without saying what it holds",
                                    engine.name(), led.id.value));
    }
    return;
  }
  if (next_term && places.there.none()) return;
  const bool goes_on = now.pinned && (same_term || next_term);
  if (!goes_on) promise.replicas = {};
  promise.replicas |= places.there;
  promise.in = now.pinned && promise.replicas.any() ? epoch : Epoch{};
}

Holdings::Places Holdings::places_of(const Shard& shard, const Match::State& match,
                                     std::size_t block) const {
  Places places;
  const std::span<const FoundReplica> replicas = match.replicas_of(block, 0);
  for (std::size_t i = 0; i < replicas.size(); ++i) {
    const Location& at = replicas[i].at;
    const std::shared_ptr<Arena> arena = cluster_.arena_of(at.node, at.incarnation);
    if (!arena) continue;
    const Seal& seal = arena->seal(at.slot);
    const bool sealed =
        seal.state.load() == Seal::sealed && seal.generation.load() == at.generation.value;
    places.lost[i] = !sealed;
    places.there[i] = sealed && has(shard, at);
  }
  return places;
}

std::string catalog_differs(Cluster& cluster) {
  const std::vector<Cluster::Led> led = cluster.leaders();
  std::string differs;
  std::size_t sealed = 0;
  for (std::size_t i = 0; i < cluster.node_count(); ++i) {
    const NodeLife& node = *cluster.node(i);
    const std::size_t before = sealed;
    node.service.for_each_sealed([&](const wire::SlotEntry& entry, std::span<const std::byte>) {
      ++sealed;
      for (const Cluster::Led& one : led) {
        if (!one.shard->params().term.range.has(entry.meta.key)) continue;
        Location at;
        at.node = node.arena->node();
        at.slot = entry.slot;
        at.generation = entry.generation;
        if (has(*one.shard, at)) continue;
        differs = fmt::format("slot {} of node {} is sealed, and shard {} does not know it",
                              entry.slot.value, node.arena->node().value, one.id.value);
      }
    });
    if (node.service.status().used_slots != sealed - before) {
      differs = fmt::format("node {} uses slots that are not sealed", node.arena->node().value);
    }
  }
  std::size_t known = 0;
  for (const Cluster::Led& one : led) {
    known += one.shard->catalog().counts().replicas;
    for (NodeIndex node = 0; node < one.shard->nodes().end(); ++node) {
      if (one.shard->nodes()[node].condemned.count() == 0) continue;
      differs = fmt::format("shard {} waits for node {} to free a slot", one.id.value,
                            one.shard->nodes()[node].id.value);
    }
  }
  if (differs.empty() && known != sealed) {
    differs = fmt::format("{} slots are sealed, and {} are known", sealed, known);
  }
  return differs;
}

bool in_answers(const Cluster& cluster, NodeId node) {
  for (const Cluster::Led& led : cluster.leaders()) {
    const NodeIndex index = led.shard->nodes().find(node);
    if (index != Nodes::kNoNode && led.shard->nodes()[index].registered) return true;
  }
  return false;
}

}  // namespace membrain::sim
