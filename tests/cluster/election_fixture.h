// Servers that stand for a shard, on a simulated coordination.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "server/cluster/election.h"
#include "server/cluster/membership.h"
#include "server/cluster/sim_coordination.h"

namespace membrain::election_test {

using std::chrono::milliseconds;
using std::chrono::seconds;

inline constexpr Duration kLease = seconds(2);

/// One server's candidacy.
class Candidate final : private ElectionListener {
 public:
  Candidate(const ManualClock& clock, SimCoordinator& coordinator, const std::string& name,
            ShardId shard = {})
      : loop(clock),
        coordination(loop, coordinator),
        membership(loop, coordination, config(name)),
        election(membership, shard, *this) {
    membership.start(name);
    election.start(name);
  }

  [[nodiscard]] bool leads() const { return !dead && election.holds(loop.clock().now()); }

  Loop loop;
  SimCoordination coordination;
  Membership membership;
  Election election;
  std::vector<Term> terms;
  std::string leader;
  bool paused = false;
  bool dead = false;  ///< nobody asks it any more
  bool stopped = false;

 private:
  static MemberConfig config(const std::string& name) {
    MemberConfig config;
    config.name = name;
    config.lease = kLease;
    config.seed = std::hash<std::string>()(name);
    return config;
  }
  void on_lead(Term term) override { terms.push_back(std::move(term)); }
  void on_follow(const std::string& who, LeaseId) override { leader = who; }
};

inline Task<> stop(Candidate& one) {
  Task<> resigning = one.election.stop();
  co_await resigning;
  Task<> leaving = one.membership.stop();
  co_await leaving;
  Task<> ending = one.coordination.stop();
  co_await ending;
  one.stopped = true;
}

template <class T>
Task<> put_into(Task<T> task, std::optional<T>& into) {
  into = co_await task;
}

class ElectionTest : public testing::Test {
 protected:
  ElectionTest() { set_log_level(LogLevel::error); }
  ~ElectionTest() override {
    coordinator_.quorum = true;
    for (auto& one : candidates_) {
      one->paused = false;
      one->coordination.cut_off(false);
      if (!one->stopped) one->loop.spawn(stop(*one));
    }
    pass(seconds(10));
  }
  Candidate& candidate(const std::string& name) {
    candidates_.push_back(std::make_unique<Candidate>(clock_, coordinator_, name));
    return *candidates_.back();
  }
  /// Virtual time passes by the millisecond; never do two lead.
  void pass(Duration time) {
    for (const TimePoint end = clock_.now() + time; clock_.now() < end;) {
      clock_.advance(milliseconds(1));
      coordinator_.pass_time(clock_.now());
      std::size_t leaders = 0;
      for (auto& one : candidates_) {
        while (!one->paused && one->loop.turn()) continue;
        leaders += one->leads() ? 1 : 0;
      }
      ASSERT_LE(leaders, 1U);
    }
  }
  Candidate* leader() {
    for (auto& one : candidates_) {
      if (one->leads()) return one.get();
    }
    return nullptr;
  }
  template <class T>
  T await(Candidate& on, Task<T> task) {
    std::optional<T> result;
    on.loop.spawn(put_into(std::move(task), result));
    for (int i = 0; i < 10'000 && !result; ++i) pass(milliseconds(1));
    return std::move(*result);
  }

  ManualClock clock_;
  SimRandom random_{7};
  SimCoordinator coordinator_{random_};
  std::vector<std::unique_ptr<Candidate>> candidates_;
};

}  // namespace membrain::election_test
