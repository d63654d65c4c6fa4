// 20,100 seeded schedules of whole clusters. One failing seed prints the line that replays it.
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/log.h"
#include "tests/sim/last_words.h"
#include "tests/sim/plans.h"
#include "tests/sim/schedule.h"

namespace membrain::sim {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  ///< twenty times slower: a fortieth of the schedules
#else
constexpr bool kSanitized = false;
#endif

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

/// Runs a kind for many seeds; MEMBRAIN_SIM_SEED runs one, MEMBRAIN_SIM_SCHEDULES more.
void run_schedules(std::string_view name, std::uint64_t count = 2000) {
  set_log_level(LogLevel::error);
  const PlanKind* const kind = plan_kind(name);
  ASSERT_NE(kind, nullptr);
  if (kSanitized) count = std::max<std::uint64_t>(count / 40, 10);
  count = number_from("MEMBRAIN_SIM_SCHEDULES", count);
  const std::uint64_t only = number_from("MEMBRAIN_SIM_SEED", 0);
  const std::uint64_t first = only != 0 ? only : 1;
  const std::uint64_t last = only != 0 ? only : count;
  Counts sum;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    Schedule schedule(plan_of(*kind, seed));
    for (const std::string& violation : schedule.run()) {
      ADD_FAILURE() << violation << "\n  replay: membrain-sim --kind " << name << " --seed " << seed
                    << " --schedules 1";
    }
    if (::testing::Test::HasFailure()) return;
    sum.add(schedule.counts());
  }
  ::testing::Test::RecordProperty("events", std::to_string(sum.events));
  // A simulator in which nothing happens proves nothing.
  EXPECT_GT(sum.fetched, 0u);
  EXPECT_GT(sum.stored, 0u);
  constexpr std::uint64_t kMany = 100;  // so many meet all of what follows
  if (last - first + 1 < kMany) return;
  EXPECT_GT(sum.mapped, 0u);
  EXPECT_GT(sum.read_from_afar, 0u);
  EXPECT_GT(sum.viewed, 0u);
  EXPECT_GT(sum.copied, 0u);
}

TEST(Sim, ASoundNetworkAndTooLittleMemoryKeepTheInvariants) {
  run_schedules("sound", 1000);
}

TEST(Sim, LostRepeatedAndReorderedMessagesKeepTheInvariants) {
  run_schedules("lossy");
}

TEST(Sim, DyingProcessesKeepTheInvariants) {
  run_schedules("dying");
}

TEST(Sim, PartitionsAndPausesKeepTheInvariants) {
  run_schedules("parted");
}

TEST(Sim, LeadersThatComeAndGoKeepTheInvariants) {
  run_schedules("leaders");
}

TEST(Sim, ShardsThatMoveAndAreSplitKeepTheInvariants) {
  run_schedules("shards");
}

TEST(Sim, BlocksOnTwoNodesAreMendedWhereNodesDie) {
  run_schedules("replicated");
}

TEST(Sim, WhatClientsHoldStaysWhenLeadersDieAndShardsMoveAndAreSplit) {
  run_schedules("failover");
}

TEST(Sim, WhoeverIsDeposedBeforeItsLeaseEndsIsNotObeyed) {
  run_schedules("deposed", 1000);
}

TEST(Sim, SleepersFindTheirSlotsUsedAgainAndKeepTheInvariants) {
  run_schedules("asleep");
}

TEST(Sim, EverythingAtOnceKeepsTheInvariants) {
  run_schedules("everything");
}

TEST(Sim, ASeedIsTheSameScheduleWheneverItRuns) {
  set_log_level(LogLevel::error);
  for (const PlanKind& kind : plan_kinds()) {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      Schedule once(plan_of(kind, seed));
      Schedule again(plan_of(kind, seed));
      EXPECT_TRUE(once.run().empty() && again.run().empty());
      EXPECT_EQ(once.counts().events, again.counts().events) << kind.name << ", seed " << seed;
      EXPECT_EQ(once.counts().faults, again.counts().faults) << kind.name << ", seed " << seed;
    }
  }
}

TEST(Sim, WhatProtocolsStumbleOverIsMet) {
  set_log_level(LogLevel::error);
  constexpr std::string_view kWanted[] = {
      "bytes that landed after a time-out",
      "two prompts that share a prefix pinned",
      "a lookup's answer lost",
      "a free repeated",
      "a node absent during a clear",
      "an epoch that a node or client missed",
      "a server paused",
      "a reader paused amid its reading",
      "two who believed that they lead",
  };
  Counts sum;
  const auto missing = [&] {
    return std::ranges::count_if(kWanted, [&](auto what) { return !sum.met.contains(what); });
  };
  constexpr std::uint64_t kMost = 600;
  for (std::uint64_t seed = 1; seed <= kMost && missing() > 0; ++seed) {
    Schedule schedule(plan_of(plan_kinds()[seed % plan_kinds().size()], seed));
    EXPECT_TRUE(schedule.run().empty()) << "seed " << seed;
    sum.add(schedule.counts());
  }
  for (const std::string_view what : kWanted) EXPECT_TRUE(sum.met.contains(what)) << what;
}

TEST(Sim, TenantsAndStrangersAreInTheMix) {
  set_log_level(LogLevel::error);
  Counts sum;
  const PlanKind* const kind = plan_kind("sound");
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    const Plan plan = plan_of(*kind, seed);
    if (plan.tenants < 2) continue;
    Schedule schedule(plan);
    EXPECT_TRUE(schedule.run().empty()) << "seed " << seed;
    sum.add(schedule.counts());
  }
  for (const char* const trick :
       {"proof altered", "another's session in a proof", "grant made of a session's proof",
        "key guessed", "client without the secret", "node without the secret"}) {
    EXPECT_GT(sum.faults[trick], 0U) << trick;
  }
}

TEST(Sim, AProcessThatEndsSaysHowToReplayIt) {
  const auto end = [] {
    keep_last_words();
    set_last_words("replay: this\n");
    std::abort();
  };
  EXPECT_EXIT(end(), ::testing::KilledBySignal(SIGABRT), "replay: this");
}

TEST(Sim, LargeClustersKeepTheInvariants) {
  run_schedules("large", 100);
}

}  // namespace
}  // namespace membrain::sim
