// What a network does to reliable connections: packets are lost, links fall, hosts lose power. Runs
// in one of two virtual machines (two_machines.sh); the other one serves blocks.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>

#include "tests/ucx/fetching.h"

namespace membrain::ucx_test {
namespace {

/// Within this time of a host's end everybody who is connected with it knows.
constexpr Duration kDeadPeer = seconds(3);

Lane rdma_lane() {
  const std::vector<Lane> lanes = rdma_lanes();
  return lanes.empty() ? tcp_lane() : lanes.front();
}

void shell(const std::string& line) {
  ASSERT_EQ(std::system(line.c_str()), 0) << line;
}

class RdmaFaults : public Fetching {
 protected:
  RdmaFaults() : Fetching(rdma_lane()) {}

  void connect_again() {
    party_.lost.clear();
    party_.messages.clear();
    landings_.clear();
    const TimePoint until = party_.clock().now() + seconds(30);
    Result<PeerId> peer = connect(party_, server_->address(), {}, seconds(3));
    while (!peer && party_.clock().now() < until) {
      peer = connect(party_, server_->address(), {}, seconds(3));
    }
    peer_ = peer.value();
  }

  /// Takes what has landed: right in every byte, or of a connection that is gone.
  void check_landed() {
    landings_.remove_if([this](const Landing& landing) {
      if (!landing.received.done()) return false;
      if (!landing.received.outcome()) return true;
      EXPECT_TRUE(landing.block == pattern(block_bytes(landing.number), landing.number));
      ++checked_;
      return true;
    });
  }

  /// Fetches, again on a new connection when one was lost, until `count` blocks are checked.
  void fetch_through_losses(std::size_t count) {
    std::size_t asked = 0;
    const bool all = drive(
        {&party_},
        [&] {
          if (!party_.lost.empty()) {
            ++losses_;
            connect_again();
            asked = checked_;
          }
          take_offers();
          check_landed();
          while (asked < checked_ + 4 && party_.lost.empty()) {
            if (!party_.fabric().send(peer_, std::as_bytes(std::span(&asked, 1)))) break;
            ++asked;
          }
          return checked_ >= count;
        },
        seconds(60));
    EXPECT_TRUE(all) << checked_ << " of " << count << " blocks";
  }

  /// Until the peer's end is known and nothing is under way any more. With `traffic` more is
  /// fetched all the while; else nobody says a word.
  void expect_loss_within(Duration longest, bool traffic) {
    const TimePoint start = party_.clock().now();
    std::size_t asked = checked_;
    EXPECT_TRUE(drive(
        {&party_},
        [&] {
          take_offers();
          check_landed();
          const bool lost = party_.lost == std::vector{peer_};
          while (traffic && !lost && asked < checked_ + 4) {
            if (!party_.fabric().send(peer_, std::as_bytes(std::span(&asked, 1)))) break;
            ++asked;
          }
          return lost && landings_.empty();
        },
        longest));
    const auto took = std::chrono::duration_cast<milliseconds>(party_.clock().now() - start);
    std::cout << "known after " << took.count() << " ms, " << landings_.size()
              << " receives under way, " << party_.lost.size() << " connections lost\n";
  }

  std::size_t checked_ = 0;
  std::size_t losses_ = 0;
};

TEST_F(RdmaFaults, TwoPercentOfThePacketsLostCostTimeAndNoByte) {
  const std::string lossy = "tc qdisc add dev wire0 root netem loss 2%";
  const std::string sound = "tc qdisc del dev wire0 root";
  run_on_agents_host(lossy);
  shell(lossy);
  fetch_through_losses(40);
  shell("tc -s qdisc show dev wire0 | grep dropped");
  shell(sound);
  run_on_agents_host(sound);
  std::cout << losses_ << " connections lost\n";
}

TEST_F(RdmaFaults, ALinkThatIsDownForAMomentCostsNoByte) {
  for (int round = 0; round < 3; ++round) {
    fetch_through_losses(checked_ + 4);
    shell("$CABLE off");
    drive(
        {&party_}, [this] { return take_offers(), check_landed(), false; }, milliseconds(200));
    shell("$CABLE on");
    fetch_through_losses(checked_ + 8);
  }
  std::cout << losses_ << " connections lost\n";
}

TEST_F(RdmaFaults, ALinkThatStaysDownIsADeadPeerUntilItIsUpAgain) {
  begin_to_fetch(4);
  run_on_agents_host("$CABLE off; sleep 5; $CABLE on");
  expect_loss_within(kDeadPeer, true);
  connect_again();
  fetch(8);
}

TEST_F(RdmaFaults, ASilentPeersEndIsNoticedToo) {
  fetch(2);
  run_on_agents_host("$CABLE off; sleep 5; $CABLE on");
  expect_loss_within(kDeadPeer + milliseconds(500), false);  // the cable comes off a little later
  connect_again();
  fetch(8);
}

// The last one: nobody is left to serve another.
TEST_F(RdmaFaults, AHostThatLosesItsPowerIsNoticedWithinThreeSeconds) {
  begin_to_fetch(4);
  run_on_agents_host("echo o > /proc/sysrq-trigger");
  expect_loss_within(kDeadPeer, true);
}

}  // namespace
}  // namespace membrain::ucx_test

int main(int argc, char** argv) {
  const int served = membrain::ucx_test::serve_or_assist(argc, argv);
  if (served >= 0) return served;
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
