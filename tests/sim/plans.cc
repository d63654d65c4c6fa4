#include "tests/sim/plans.h"

#include "tests/sim/content.h"

namespace membrain::sim {

namespace {

/// When what a message spoke of may be over, and its place taken by something else.
constexpr Duration kMuchLater = std::chrono::milliseconds(300);

Plan sound(std::uint64_t) {
  Plan plan;
  plan.arena_bytes = 64 * 1024;
  return plan;
}

Plan lossy(std::uint64_t seed) {
  Plan plan;
  plan.faults.loss = 0.01 * static_cast<double>(seed % 8);
  plan.faults.duplicate = 0.05;
  if (seed / 8 % 2 == 1) {
    plan.faults.duplicate = 0.25;
    plan.faults.duplicate_delay = kMuchLater;
  }
  plan.faults.reorder = 0.1;
  plan.faults.reset = 0.002;
  plan.clear = 0.01;
  return plan;
}

Plan dying(std::uint64_t) {
  Plan plan;
  plan.kill_node = 0.08;
  plan.rot = 0.1;
  plan.kill_server = 0.05;
  plan.kill_client = 0.08;
  plan.clear = 0.01;
  return plan;
}

Plan parted(std::uint64_t) {
  Plan plan;
  plan.partition = 0.15;
  plan.pause = 0.1;
  plan.slow = 0.1;
  return plan;
}

Plan leaders(std::uint64_t seed) {
  Plan plan;
  plan.servers = 2 + seed % 2;
  plan.kill_server = 0.12;
  plan.pause = 0.1;
  plan.partition = 0.05;
  plan.cut_coordination = 0.1;
  plan.no_quorum = 0.05;
  plan.lost_coordination = 0.05;
  plan.clear = 0.02;
  return plan;
}

/// Shards that move from server to server and are split.
Plan shards(std::uint64_t seed) {
  Plan plan;
  plan.servers = 1 + seed % 3;
  plan.shards = 1 + seed % 4;
  plan.nodes = 2 + seed % 2;
  plan.clients = 3;
  plan.arena_bytes = (64 + 32 * (seed % 3)) * 1024;
  plan.kill_server = 0.06;
  plan.pause = 0.05;
  plan.partition = 0.03;
  if (plan.servers > 1) plan.cut_coordination = 0.05, plan.lost_coordination = 0.03;
  plan.faults.reset = 0.001;
  plan.move_shard = 0.15;
  plan.split_shard = 0.1;
  plan.clear = 0.01;
  return plan;
}

/// Nodes die, and every block is to be on two of them.
Plan replicated(std::uint64_t seed) {
  Plan plan;
  plan.nodes = 3;
  plan.arena_bytes = 2 * 1024 * 1024;
  plan.roomy = true;
  plan.replicas = 2;
  plan.kill_node = 0.1;
  plan.leave = 0.03;
  plan.kill_server = seed % 2 == 0 ? 0 : 0.03;
  plan.partition = 0.05;
  plan.pause = 0.03;
  plan.faults.loss = 0.01 * static_cast<double>(seed % 3);
  plan.faults.duplicate = 0.02;
  plan.faults.reorder = 0.05;
  plan.faults.reset = 0.002;
  plan.clear = 0.005;
  return plan;
}

/// Servers die, shards move and are split, and nothing else happens: what clients hold must stay.
Plan failover(std::uint64_t seed) {
  Plan plan;
  plan.servers = 2 + seed % 2;
  plan.shards = 1 + seed / 2 % 3;
  plan.arena_bytes = (48 + 16 * (seed % 3)) * 1024;
  plan.kill_server = 0.12;
  plan.move_shard = 0.1;
  plan.split_shard = 0.08;
  plan.rounds = 20;
  return plan;
}

/// Leases of living servers end early, and whoever is deposed so hears of it late; nodes and
/// clients lose their connections and come to the one or the other.
Plan deposed(std::uint64_t seed) {
  Plan plan;
  plan.servers = 2 + seed % 2;
  plan.shards = 1 + seed / 2 % 2;
  plan.arena_bytes = (48 + 16 * (seed % 3)) * 1024;
  plan.end_lease = 0.15;
  plan.lease = std::chrono::milliseconds(1200);  // time to be believed for long
  plan.lost_coordination = 0.02;
  plan.partition = 0.08;
  plan.faults.reset = seed / 4 % 2 == 0 ? 0.001 : 0.01;
  plan.move_shard = 0.04;
  plan.split_shard = 0.04;
  plan.clear = 0.03;
  plan.rounds = 24;
  return plan;
}

/// Whoever is stopped sleeps for longer than sessions, nodes and leases live, with little memory
/// and slow transfers: slots are used again under the eyes of readers.
Plan asleep(std::uint64_t seed) {
  Plan plan;
  plan.servers = 1 + seed % 2;
  plan.shards = 1 + seed / 2 % 2;
  plan.arena_bytes = (48 + 16 * (seed % 2)) * 1024;
  plan.faults.bytes_per_second = 1'000'000;
  plan.pause = 0.1;
  plan.nap_rounds = 30;
  plan.rounds = 48;
  return plan;
}

Plan everything(std::uint64_t seed) {
  Plan plan;
  plan.servers = 1 + seed % 3;
  plan.shards = 1 + seed / 3 % 3;
  plan.move_shard = 0.05;
  plan.split_shard = 0.02;
  plan.nodes = 1 + seed % 3;
  plan.clients = 2 + seed % 4;
  plan.arena_bytes = (48 + 16 * (seed % 8)) * 1024;
  plan.faults.loss = 0.01;
  plan.faults.duplicate = 0.02;
  plan.faults.reorder = 0.05;
  plan.faults.reset = 0.002;
  plan.faults.bit_flip = 0.01;
  plan.kill_node = 0.05;
  plan.leave = 0.02;
  plan.rot = 0.05;
  plan.kill_server = 0.03;
  plan.kill_client = 0.05;
  plan.rot = 0.05;
  plan.partition = 0.08;
  plan.pause = 0.05;
  plan.slow = 0.05;
  plan.cut_coordination = 0.04;
  plan.no_quorum = 0.02;
  plan.lost_coordination = 0.02;
  if (plan.servers > 1 && seed % 4 == 0) plan.end_lease = 0.03;
  plan.clear = 0.01;
  return plan;
}

/// Every kind of fault among many processes: by name only, as it takes as long as ten others.
Plan large(std::uint64_t seed) {
  Plan plan;
  plan.servers = 3;
  plan.shards = 3;
  plan.nodes = 5;
  plan.clients = 20;
  plan.arena_bytes = (64 + 32 * (seed % 3)) * 1024;
  plan.faults.loss = 0.005;
  plan.faults.duplicate = 0.01;
  plan.faults.reorder = 0.02;
  plan.faults.reset = 0.001;
  plan.faults.bit_flip = 0.005;
  plan.kill_node = plan.kill_server = plan.kill_client = 0.05;
  plan.partition = 0.08;
  plan.pause = 0.05;
  plan.slow = 0.05;
  plan.cut_coordination = 0.02;
  plan.no_quorum = 0.02;
  plan.lost_coordination = 0.02;
  plan.end_lease = 0.02;
  plan.move_shard = 0.1;
  plan.split_shard = 0.05;
  plan.clear = 0.002;
  plan.rounds = 6;
  return plan;
}

constexpr PlanKind kKinds[] = {
    {"sound", sound},           {"lossy", lossy},          {"dying", dying},
    {"parted", parted},         {"leaders", leaders},      {"shards", shards},
    {"failover", failover},     {"deposed", deposed},      {"asleep", asleep},
    {"replicated", replicated}, {"everything", everything}};
constexpr PlanKind kLarge{"large", large};

}  // namespace

std::span<const PlanKind> plan_kinds() {
  return kKinds;
}

const PlanKind* plan_kind(std::string_view name) {
  for (const PlanKind& kind : kKinds) {
    if (kind.name == name) return &kind;
  }
  return name == kLarge.name ? &kLarge : nullptr;
}

Plan plan_of(const PlanKind& kind, std::uint64_t seed) {
  // Seeds of one kind are equally far from each other: what else they decide must not depend on it.
  const std::uint64_t luck = mix(seed);
  Plan plan = kind.make(luck >> 8);
  plan.seed = seed;
  plan.windows = luck % 2 == 1;
  if (luck / 8 % 3 == 2) plan.replicas = 2;
  plan.zones = luck / 8 % 5 < 2;
  plan.hot_lookups = luck / 8 % 7 < 3 ? 6 : 0;
  if (plan.clients > 1 && luck / 32 % 3 == 0) plan.tenants = 2, plan.rogue = 0.15;
  // Without checksums the seals alone stand between a reader and another block's bytes.
  plan.verify = plan.faults.bit_flip != 0 || luck / 2 % 4 != 1;
  return plan;
}

}  // namespace membrain::sim
