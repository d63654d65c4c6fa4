// 6,000 seeded schedules of whole clusters. One failing seed prints the line that replays it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "base/log.h"
#include "tests/sim/schedule.h"

namespace membrain::sim {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  ///< ten times slower: a tenth of the schedules
#else
constexpr bool kSanitized = false;
#endif

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

/// Runs `make(seed)` for many seeds; MEMBRAIN_SIM_SEED runs one, MEMBRAIN_SIM_SCHEDULES more.
template <class Make>
void run_schedules(const char* test, std::uint64_t count, Make make) {
  set_log_level(std::getenv("MEMBRAIN_SIM_LOG") ? LogLevel::debug : LogLevel::error);
  if (kSanitized) count /= 10;
  count = number_from("MEMBRAIN_SIM_SCHEDULES", count);
  const std::uint64_t only = number_from("MEMBRAIN_SIM_SEED", 0);
  const std::uint64_t first = only != 0 ? only : 1;
  const std::uint64_t last = only != 0 ? only : count;
  Counts sum;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    Plan plan = make(seed);
    plan.seed = seed;
    plan.windows = seed % 2 == 1;
    // Without checksums the seals alone stand between a reader and another block's bytes.
    plan.verify = plan.faults.bit_flip != 0 || seed % 4 != 1;
    Schedule schedule(plan);
    for (const std::string& violation : schedule.run()) {
      ADD_FAILURE() << violation << "\n  replay: MEMBRAIN_SIM_SEED=" << seed
                    << " sim_test --gtest_filter=" << test;
    }
    if (::testing::Test::HasFailure()) return;
    const Counts& counts = schedule.counts();
    sum.events += counts.events;
    sum.lookups += counts.lookups;
    sum.fetched += counts.fetched;
    sum.mapped += counts.mapped;
    sum.read_from_afar += counts.read_from_afar;
    sum.viewed += counts.viewed;
    sum.stale_views += counts.stale_views;
    sum.stored += counts.stored;
    sum.not_stored += counts.not_stored;
    sum.missed += counts.missed;
    sum.kills += counts.kills;
    sum.clears += counts.clears;
    sum.terms += counts.terms;
  }
  // A simulator in which nothing happens proves nothing.
  EXPECT_GT(sum.fetched, 0u);
  EXPECT_GT(sum.stored, 0u);
  EXPECT_GT(sum.mapped, 0u);
  EXPECT_GT(sum.read_from_afar, 0u);
  EXPECT_GT(sum.viewed, 0u);
  ::testing::Test::RecordProperty("events", std::to_string(sum.events));
  std::printf(
      "%s: %llu events, %llu lookups, %llu fetched, %llu mapped, %llu from afar, %llu viewed, %llu "
      "stale, %llu "
      "stored, %llu not stored, "
      "%llu missed, %llu kills, %llu clears, %llu terms\n",
      test, static_cast<unsigned long long>(sum.events),
      static_cast<unsigned long long>(sum.lookups), static_cast<unsigned long long>(sum.fetched),
      static_cast<unsigned long long>(sum.mapped),
      static_cast<unsigned long long>(sum.read_from_afar),
      static_cast<unsigned long long>(sum.viewed), static_cast<unsigned long long>(sum.stale_views),
      static_cast<unsigned long long>(sum.stored), static_cast<unsigned long long>(sum.not_stored),
      static_cast<unsigned long long>(sum.missed), static_cast<unsigned long long>(sum.kills),
      static_cast<unsigned long long>(sum.clears), static_cast<unsigned long long>(sum.terms));
}

TEST(Sim, ASoundNetworkAndTooLittleMemoryKeepTheInvariants) {
  run_schedules("Sim.ASoundNetworkAndTooLittleMemoryKeepTheInvariants", 1000, [](std::uint64_t) {
    Plan plan;
    plan.arena_bytes = 64 * 1024;
    return plan;
  });
}

TEST(Sim, LostRepeatedAndReorderedMessagesKeepTheInvariants) {
  run_schedules("Sim.LostRepeatedAndReorderedMessagesKeepTheInvariants", 1000,
                [](std::uint64_t seed) {
                  Plan plan;
                  plan.faults.loss = 0.01 * static_cast<double>(seed % 8);
                  plan.faults.duplicate = 0.05;
                  plan.faults.reorder = 0.1;
                  plan.faults.reset = 0.002;
                  plan.clear = 0.01;
                  return plan;
                });
}

TEST(Sim, DyingProcessesKeepTheInvariants) {
  run_schedules("Sim.DyingProcessesKeepTheInvariants", 1000, [](std::uint64_t) {
    Plan plan;
    plan.kill_node = 0.08;
    plan.kill_server = 0.05;
    plan.kill_client = 0.08;
    return plan;
  });
}

TEST(Sim, PartitionsAndPausesKeepTheInvariants) {
  run_schedules("Sim.PartitionsAndPausesKeepTheInvariants", 1000, [](std::uint64_t) {
    Plan plan;
    plan.partition = 0.15;
    plan.pause = 0.1;
    return plan;
  });
}

TEST(Sim, LeadersThatComeAndGoKeepTheInvariants) {
  run_schedules("Sim.LeadersThatComeAndGoKeepTheInvariants", 1000, [](std::uint64_t seed) {
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
  });
}

TEST(Sim, EverythingAtOnceKeepsTheInvariants) {
  run_schedules("Sim.EverythingAtOnceKeepsTheInvariants", 1000, [](std::uint64_t seed) {
    Plan plan;
    plan.servers = 1 + seed % 3;
    plan.cut_coordination = 0.04;
    plan.no_quorum = 0.02;
    plan.lost_coordination = 0.02;
    plan.nodes = 1 + seed % 3;
    plan.clients = 2 + seed % 4;
    plan.arena_bytes = (48 + 16 * (seed % 8)) * 1024;
    plan.faults.loss = 0.01;
    plan.faults.duplicate = 0.02;
    plan.faults.reorder = 0.05;
    plan.faults.reset = 0.002;
    plan.faults.bit_flip = 0.01;
    plan.kill_node = 0.05;
    plan.kill_server = 0.03;
    plan.kill_client = 0.05;
    plan.partition = 0.08;
    plan.pause = 0.05;
    plan.clear = 0.01;
    return plan;
  });
}

}  // namespace
}  // namespace membrain::sim
