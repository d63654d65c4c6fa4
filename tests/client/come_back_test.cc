// What a client holds a lot of, or what its shard does not want any more, keeps no client away.
#include <gtest/gtest.h>

#include "tests/client/fake_cluster.h"

namespace membrain::client_test {
namespace {

/// The server is 20 ms away.
class ComesBack : public ClientTest {
 protected:
  static SimFaults far() {
    SimFaults faults;
    faults.min_delay = faults.max_delay = milliseconds(20);
    return faults;
  }
  ComesBack() : ClientTest(far()) { config_.connect_timeout = milliseconds(500); }

  void hold(unsigned count) {
    for (unsigned number = 1; number <= count; ++number) {
      publish(number, 100, {&node1_});
      held_.push_back(lookup({number}).value());
    }
  }
  void lose_the_server() {
    shard_.close(*shard_.peers.begin());
    step_until([&] { return !core_->connected(); });
    shard_.pins.clear();
    shard_.epoch = Epoch{2};
  }

  std::vector<Match> held_;
};

TEST_F(ComesBack, HoweverMuchItHolds) {
  begin();
  hold(500);
  lose_the_server();
  const TimePoint lost = clock_.now();
  step_until([&] { return core_->connected() || clock_.now() - lost > seconds(30); });
  EXPECT_TRUE(core_->connected());
  EXPECT_EQ(shard_.hellos.size(), 2U) << "at the first attempt";
  EXPECT_EQ(shard_.pins.size(), 500U);
}

TEST_F(ComesBack, WithoutWhatTheShardRefuses) {
  begin();
  hold(3);
  shard_.unwelcome = held_[1].state()->claims[0].lookup;
  lose_the_server();
  const TimePoint lost = clock_.now();
  step_until([&] { return core_->connected() || clock_.now() - lost > seconds(30); });
  EXPECT_TRUE(core_->connected());
  EXPECT_EQ(shard_.pins.size(), 2U);
}

TEST_F(ComesBack, NotToAShardThatFallsSilentAmidIt) {
  begin();
  hold(100);
  lose_the_server();
  shard_.silent = true;
  run_for(seconds(3));
  EXPECT_FALSE(core_->connected());
  shard_.silent = false;
  step_until([&] { return core_->connected(); });
  EXPECT_EQ(shard_.pins.size(), 100U);
}

}  // namespace
}  // namespace membrain::client_test
