// One server's shards: those that find no place, and how they make way for another server's.
#include "server/cluster/server_shards.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "server/cluster/sim_coordination.h"
#include "tests/transport/await.h"
#include "transport/sim_network.h"

namespace membrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t kShards = 3;

/// A process whose shards share its loop.
class Server final : private ShardHost {
 public:
  Server(ManualClock& clock, SimNetwork& network, SimCoordinator& coordinator,
         const std::string& name)
      : loop(clock),
        network_(network),
        name_(name),
        coordination_(loop, coordinator),
        membership(loop, coordination_, member(name)),
        shards(membership, nullptr, *this, {}, kShards) {
    EXPECT_TRUE(shards.listen());
    membership.start(name);
    shards.start();
  }
  [[nodiscard]] bool leads(std::uint32_t shard) const {
    const LedShard* const one = shards.find(ShardId{shard});
    return one != nullptr && one->leads(loop.clock().now());
  }
  [[nodiscard]] std::size_t led() const {
    std::size_t count = 0;
    for (std::uint32_t i = 0; i < kShards; ++i) count += leads(i) ? 1 : 0;
    return count;
  }
  Task<> stop() {
    Task<> first = shards.stop();
    co_await first;
    Task<> second = membership.stop();
    co_await second;
    Task<> third = coordination_.stop();
    co_await third;
  }

  Loop loop;

 private:
  static MemberConfig member(const std::string& name) {
    MemberConfig config;
    config.name = name;
    return config;
  }
  Result<Place> make_place(ShardId shard) override {
    std::unique_ptr<Fabric>& fabric = fabrics_[shard];
    fabric = network_.make_fabric(loop, name_);
    return Place{fabric.get(), fmt::format("{}:{}", name_, shard.value)};
  }
  Address open_place(ShardId, const Address& address) override { return address; }

  SimNetwork& network_;
  const std::string name_;
  std::map<ShardId, std::unique_ptr<Fabric>> fabrics_;
  SimCoordination coordination_;

 public:
  Membership membership;
  ServerShards shards;
};

/// Somebody who listens, or is connected to a shard.
struct Stranger final : Receiver {
  Stranger(ManualClock& clock, SimNetwork& network, const std::string& process)
      : loop(clock), fabric(network.make_fabric(loop, process)) {
    fabric->set_receiver(*this);
  }
  void on_message(PeerId, std::span<const std::byte>, Payload) override {}
  void on_lost(PeerId, const Error&) override {}
  Loop loop;
  std::unique_ptr<Fabric> fabric;
};

class ServerShardsTest : public testing::Test {
 protected:
  ServerShardsTest() { set_log_level(LogLevel::error); }

  std::unique_ptr<Server> server(const std::string& name) {
    return std::make_unique<Server>(clock_, network_, coordinator_, name);
  }
  template <class Condition>
  void step_until(Condition condition) {
    for (int i = 0; i < 200'000 && !condition(); ++i) {
      network_.step();
      coordinator_.state.expire(clock_.now());
    }
    ASSERT_TRUE(condition()) << "it does not come to that";
  }
  void run_for(Duration time) {
    const TimePoint until = clock_.now() + time;
    step_until([&] { return clock_.now() >= until; });
  }
  void run(Server& server, Task<> task) {
    bool ended = false;
    server.loop.spawn(note_end(std::move(task), ended));
    step_until([&] { return ended; });
  }
  void stop(Server& server) {
    run(server, server.stop());
    step_until([&] { return server.loop.running_tasks() == 0; });
  }

  ManualClock clock_;
  SimNetwork network_{clock_, 1};
  SimCoordinator coordinator_{network_.random()};
};

TEST_F(ServerShardsTest, AShardWithoutAPlaceKeepsNoOtherFromBeingLed) {
  auto taker = std::make_unique<Stranger>(clock_, network_, "taker");
  ASSERT_TRUE(taker->fabric->listen("one:1"));
  const std::unique_ptr<Server> one = server("one");
  run_for(seconds(2));
  EXPECT_TRUE(one->leads(0));
  EXPECT_FALSE(one->leads(1));
  EXPECT_TRUE(one->leads(2)) << "it stands behind the one whose port is taken";
  EXPECT_FALSE(one->shards.settled());
  taker.reset();
  step_until([&] { return one->led() == kShards; });
  stop(*one);
}

TEST_F(ServerShardsTest, AnotherLeadsWhileConnectionsAreClosed) {
  const std::unique_ptr<Server> one = server("one");
  step_until([&] { return one->led() == kShards; });
  const std::unique_ptr<Server> two = server("two");
  step_until([&] { return two->shards.settled(); });
  run(*one, one->shards.resign());
  EXPECT_EQ(one->led(), 0U) << "before the lease is given back";
  EXPECT_EQ(two->led(), 0U);
  run(*one, one->membership.stop());
  step_until([&] { return two->led() == kShards; });
  stop(*one);
  EXPECT_EQ(two->led(), kShards);
  stop(*two);
}

}  // namespace
}  // namespace membrain
