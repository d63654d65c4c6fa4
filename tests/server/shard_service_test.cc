#include "server/shard_service.h"
#include "tests/transport/await.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/key.h"
#include "base/log.h"
#include "protocol/calls.h"
#include "protocol/proofs.h"
#include "transport/sim_network.h"

namespace membrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* kSecret = "a secret";

/// Whoever talks to the server: a client or a node, as the test says.
class Party final : public Receiver {
 public:
  Party(SimNetwork& network, const ManualClock& clock, const std::string& name)
      : loop_(clock), fabric_(network.make_fabric(loop_, name)), calls_(*fabric_) {
    fabric_->set_receiver(*this);
  }
  ~Party() {
    fabric_.reset();
    for (int i = 0; i < 100 && loop_.running_tasks() != 0; ++i) loop_.turn();
  }
  void on_message(PeerId peer, std::span<const std::byte> bytes, Payload) override {
    const Result<wire::Frame> frame = wire::read_frame(bytes);
    ASSERT_TRUE(frame);
    last_epoch = frame->header.epoch;
    if (calls_.on_frame(peer, *frame)) return;
    if (frame->header.type == wire::Type::free_slots) {
      frees.push_back(*wire::read_body<wire::FreeSlots>(frame->body));
    }
  }
  void on_lost(PeerId peer, const Error&) override {
    lost = true;
    calls_.on_lost(peer);
  }

  Loop loop_;
  std::unique_ptr<Fabric> fabric_;
  Calls calls_;
  PeerId server;
  SessionId session;
  Epoch last_epoch;
  std::vector<wire::FreeSlots> frees;
  bool lost = false;
};

class ShardServiceTest : public testing::Test {
 protected:
  ShardServiceTest() {
    set_log_level(LogLevel::error);
    start();
  }
  ~ShardServiceTest() override {
    if (service_->leads()) {
      EXPECT_EQ(service_->shard().check_invariants(), "");
    }
  }

  void start() {
    ShardConfig config;
    config.secret = kSecret;
    config.session_ttl = seconds(3);
    config.node_ttl = seconds(2);
    config.expected_blocks = 16;
    service_ = std::make_unique<ShardService>(*fabric_, config);
    ASSERT_TRUE(service_->listen("server"));
    service_->lead(tenure_.next_term(), tenure_);
  }

  template <class T>
  T await(Party& party, Task<T> task) {
    std::optional<T> result;
    party.loop_.spawn(put_into(std::move(task), result));
    for (int i = 0; i < 100'000 && !result; ++i) network_.step();
    EXPECT_TRUE(result.has_value());
    return std::move(*result);
  }
  void connect(Party& party) {
    party.server =
        await(party, party.fabric_->connect("server", clock_.now() + seconds(1))).value();
  }
  template <class Reply, class Request>
  Result<Reply> call(Party& party, Request request, wire::Header header = {}) {
    return await(party, party.calls_.call<Reply>(party.server, std::move(request),
                                                 clock_.now() + seconds(1), header));
  }
  Result<wire::Welcome> hello(Party& party, const std::string& secret = kSecret) {
    wire::Hello request;
    request.tenant = "default";
    request.proof = hello_proof(tenant_key(secret, request.tenant), request.tenant,
                                party.fabric_->binding(party.server));
    const auto welcome = call<wire::Welcome>(party, request);
    if (welcome) party.session = welcome->proof.session;
    return welcome;
  }
  Result<wire::Accepted> join(Party& party, std::uint32_t node = 1, std::uint32_t life = 1,
                              const std::string& secret = kSecret) {
    wire::RegisterNode request;
    request.node = NodeId{node};
    request.incarnation = Incarnation{life};
    request.address = "node:data";
    request.proof = register_proof(secret, request.node, request.incarnation,
                                   party.fabric_->binding(party.server));
    return call<wire::Accepted>(party, request);
  }
  Result<wire::Reported> report(Party& party, std::vector<wire::SlotEntry> items) {
    return call<wire::Reported>(party,
                                wire::Report{NodeId{1}, Incarnation{1}, 0, true, std::move(items)});
  }
  void open(Party& client) {
    connect(client);
    ASSERT_TRUE(hello(client));
    Namespace space;
    space.model = "a model";
    const auto opened = call<wire::NamespaceOpened>(
        client, wire::OpenNamespace{digest_of(space), family_of(space), "a model"});
    ASSERT_TRUE(opened);
    space_ = opened->id;
  }
  wire::SlotEntry entry(std::uint32_t number) const {
    wire::SlotEntry item;
    item.meta.space = space_;
    item.meta.era = Era{1};
    item.meta.key = {number, 1};
    item.slot = SlotId{number};
    item.generation = Generation{number};
    item.length = 100;
    item.slot_bytes = 4096;
    return item;
  }
  Result<wire::Found> lookup(Party& client, std::uint64_t id, std::vector<std::uint32_t> numbers) {
    wire::LookupSection section;
    section.space = space_;
    for (const std::uint32_t number : numbers) section.keys.push_back({number, 1});
    return call<wire::Found>(
        client, wire::Lookup{client.session, LookupId{id}, wire::LookupMode::pin, {section}});
  }
  void run_for(Duration time) {
    const TimePoint until = clock_.now() + time;
    for (int i = 0; i < 1'000'000 && clock_.now() < until; ++i) network_.step();
  }

  ManualClock clock_;
  SimNetwork network_{clock_, 1};
  Loop loop_{clock_};
  std::unique_ptr<Fabric> fabric_ = network_.make_fabric(loop_, "server");
  LoneTenure tenure_;
  std::unique_ptr<ShardService> service_;
  Party client_{network_, clock_, "client"};
  Party node_{network_, clock_, "node"};
  NamespaceId space_;
};

TEST_F(ShardServiceTest, ABlockGoesFromANodesPublicationToAClientsLookup) {
  open(client_);
  connect(node_);
  ASSERT_TRUE(join(node_));
  ASSERT_TRUE(report(node_, {}));
  const auto published =
      call<wire::Published>(node_, wire::Publish{NodeId{1}, Incarnation{1}, {entry(1), entry(2)}});
  ASSERT_TRUE(published);
  EXPECT_EQ(published->statuses, (std::vector{wire::ItemStatus::ok, wire::ItemStatus::ok}));
  const auto found = lookup(client_, 1, {1, 2, 3});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->sections[0].prefix_blocks, 2u);
  EXPECT_EQ(client_.last_epoch, Epoch{1});
  const auto nodes = call<wire::NodeList>(client_, wire::Nodes{});
  ASSERT_TRUE(nodes);
  ASSERT_EQ(nodes->nodes.size(), 1u);
  EXPECT_TRUE(nodes->nodes[0].alive);
  EXPECT_EQ(nodes->nodes[0].address, "node:data");
}

TEST_F(ShardServiceTest, WithoutHelloNothingIsAnswered) {
  connect(client_);
  EXPECT_EQ(call<wire::StatsReply>(client_, wire::Stats{}).error().code, Errc::denied);
  EXPECT_EQ(call<wire::NodeList>(client_, wire::Nodes{}).error().code, Errc::denied);
  const auto publish = call<wire::Published>(client_, wire::Publish{NodeId{1}, Incarnation{1}, {}});
  EXPECT_EQ(publish.error().code, Errc::denied);
}

TEST_F(ShardServiceTest, WrongSecretsAreDenied) {
  connect(client_);
  EXPECT_EQ(hello(client_, "another").error().code, Errc::denied);
  EXPECT_EQ(join(client_, 1, 1, "another").error().code, Errc::denied);
  EXPECT_TRUE(hello(client_));
}

TEST_F(ShardServiceTest, AnothersSessionIsOfNoUse) {
  open(client_);
  Party thief(network_, clock_, "thief");
  open(thief);
  thief.session = client_.session;
  EXPECT_EQ(lookup(thief, 1, {1}).error().code, Errc::denied);
  EXPECT_EQ(call<wire::Alive>(thief, wire::Heartbeat{client_.session}).error().code, Errc::denied);
}

TEST_F(ShardServiceTest, AnothersNodeCannotBeSpokenFor) {
  connect(node_);
  ASSERT_TRUE(join(node_));
  Party other(network_, clock_, "other");
  connect(other);
  ASSERT_TRUE(join(other, 2));
  EXPECT_EQ(call<wire::Published>(other, wire::Publish{NodeId{1}, Incarnation{1}, {}}).error().code,
            Errc::denied);
}

TEST_F(ShardServiceTest, ANewConnectionOfANodeReplacesTheOld) {
  connect(node_);
  ASSERT_TRUE(join(node_));
  Party again(network_, clock_, "again");
  connect(again);
  ASSERT_TRUE(join(again));
  EXPECT_EQ(call<wire::Published>(node_, wire::Publish{NodeId{1}, Incarnation{1}, {}}).error().code,
            Errc::denied);
  EXPECT_TRUE(call<wire::Published>(again, wire::Publish{NodeId{1}, Incarnation{1}, {}}));
}

TEST_F(ShardServiceTest, HelloThatComesAgainIsAnsweredWithTheSameSession) {
  connect(client_);
  ASSERT_TRUE(hello(client_));
  const SessionId first = client_.session;
  ASSERT_TRUE(hello(client_));
  EXPECT_EQ(client_.session, first);
  EXPECT_EQ(service_->shard().sessions().count(), 1u);
}

TEST_F(ShardServiceTest, ARegistrationThatComesAgainKeepsWhatWasReported) {
  open(client_);
  connect(node_);
  ASSERT_TRUE(join(node_));
  ASSERT_TRUE(report(node_, {entry(1)}));
  ASSERT_TRUE(join(node_));
  EXPECT_EQ(lookup(client_, 1, {1})->sections[0].prefix_blocks, 1u);
}

TEST_F(ShardServiceTest, WhatIsNoFrameClosesTheConnection) {
  open(client_);
  const std::vector<std::byte> garbage(100, std::byte{0x5a});
  ASSERT_TRUE(client_.fabric_->send(client_.server, garbage));
  run_for(seconds(1));
  EXPECT_TRUE(client_.lost);
  EXPECT_EQ(service_->shard().sessions().count(), 0u);
}

TEST_F(ShardServiceTest, ABodyThatDoesNotFitClosesTheConnection) {
  open(client_);
  std::vector<std::byte> bytes;
  wire::Header header;
  wire::write_frame(bytes, header, wire::Heartbeat{client_.session});
  bytes.resize(wire::kHeaderBytes + 3);
  bytes[32] = std::byte{3};
  ASSERT_TRUE(client_.fabric_->send(client_.server, bytes));
  run_for(seconds(1));
  EXPECT_TRUE(client_.lost);
}

TEST_F(ShardServiceTest, AnUnknownTypeIsRefusedPolitely) {
  open(client_);
  const auto answer = call<wire::SuspectNoted>(client_, wire::Suspect{});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, Errc::invalid_argument);
  EXPECT_TRUE(call<wire::StatsReply>(client_, wire::Stats{}));
}

TEST_F(ShardServiceTest, AnotherShardOrALaterEpochIsRefused) {
  open(client_);
  wire::Header header;
  header.shard = ShardId{3};
  EXPECT_EQ(call<wire::StatsReply>(client_, wire::Stats{}, header).error().code,
            Errc::invalid_argument);
  header.shard = ShardId{0};
  header.epoch = Epoch{2};
  EXPECT_EQ(call<wire::StatsReply>(client_, wire::Stats{}, header).error().code, Errc::unavailable);
}

TEST_F(ShardServiceTest, CorruptSlotsAreFreedUnaskedAndRepeatedWithHeartbeats) {
  open(client_);
  connect(node_);
  ASSERT_TRUE(join(node_));
  ASSERT_TRUE(report(node_, {entry(1)}));
  const wire::SlotRef at{SlotId{1}, Generation{1}};
  ASSERT_TRUE(call<wire::CorruptNoted>(node_, wire::Corrupt{NodeId{1}, Incarnation{1}, at}));
  run_for(milliseconds(10));
  ASSERT_EQ(node_.frees.size(), 1u);
  EXPECT_EQ(node_.frees[0].items, (std::vector{at}));
  EXPECT_EQ(node_.frees[0].epoch, Epoch{1});
  ASSERT_TRUE(call<wire::NodeAlive>(node_, wire::NodeHeartbeat{NodeId{1}, Incarnation{1}, 5}));
  run_for(milliseconds(10));
  EXPECT_EQ(node_.frees.size(), 2u);
  ASSERT_TRUE(call<wire::FreedNoted>(node_, wire::Freed{NodeId{1}, Incarnation{1}, {at}}));
  ASSERT_TRUE(call<wire::NodeAlive>(node_, wire::NodeHeartbeat{NodeId{1}, Incarnation{1}, 5}));
  run_for(milliseconds(10));
  EXPECT_EQ(node_.frees.size(), 2u);
}

TEST_F(ShardServiceTest, SilenceEndsSessionsAndNodes) {
  open(client_);
  connect(node_);
  ASSERT_TRUE(join(node_));
  ASSERT_TRUE(report(node_, {entry(1)}));
  ASSERT_TRUE(lookup(client_, 1, {1}));
  EXPECT_EQ(service_->shard().pin_count(), 1u);
  run_for(seconds(4));
  EXPECT_EQ(service_->shard().pin_count(), 0u);
  EXPECT_EQ(service_->shard().nodes().registered_count(), 0u);
  EXPECT_EQ(call<wire::Alive>(client_, wire::Heartbeat{client_.session}).error().code,
            Errc::denied);
}

TEST_F(ShardServiceTest, AServerThatWasStoppedForAWhileExpiresNobody) {
  open(client_);
  connect(node_);
  ASSERT_TRUE(join(node_));
  ASSERT_TRUE(report(node_, {entry(1)}));
  ASSERT_TRUE(lookup(client_, 1, {1}));
  network_.pause("server");
  run_for(seconds(20));
  network_.resume("server");
  run_for(milliseconds(500));
  EXPECT_EQ(service_->shard().pin_count(), 1u);
  EXPECT_EQ(service_->shard().nodes().registered_count(), 1u);
}

TEST_F(ShardServiceTest, ASessionOutlivesItsConnection) {
  open(client_);
  connect(node_);
  ASSERT_TRUE(join(node_));
  ASSERT_TRUE(report(node_, {entry(1)}));
  ASSERT_TRUE(lookup(client_, 1, {1}));
  network_.reset_connections("client", "server");
  run_for(seconds(1));
  EXPECT_TRUE(client_.lost);
  EXPECT_EQ(service_->shard().pin_count(), 1u);
}

TEST_F(ShardServiceTest, TheStatusNamesNodesNamespacesAndSessions) {
  open(client_);
  connect(node_);
  ASSERT_TRUE(join(node_));
  const ShardStatus status = service_->status();
  EXPECT_EQ(status.epoch, 1u);
  EXPECT_EQ(status.address, "server");
  EXPECT_FALSE(status.grace);
  ASSERT_EQ(status.nodes.size(), 1u);
  ASSERT_EQ(status.namespaces.size(), 1u);
  EXPECT_EQ(status.namespaces[0].label, "a model");
  ASSERT_EQ(status.sessions.size(), 1u);
  EXPECT_FALSE(status.counters.empty());
}

TEST_F(ShardServiceTest, StoppingClosesEveryConnection) {
  open(client_);
  loop_.spawn(service_->stop());
  run_for(seconds(1));
  EXPECT_EQ(loop_.running_tasks(), 0u);
  EXPECT_TRUE(client_.lost);
}

/// Noise from a seed: whatever arrives, the server lives and its books are right.
TEST_F(ShardServiceTest, GarbledFramesHarmNobody) {
  open(client_);
  connect(node_);
  ASSERT_TRUE(join(node_));
  ASSERT_TRUE(report(node_, {entry(1), entry(2)}));
  ASSERT_TRUE(lookup(client_, 1, {1, 2}));
  wire::LookupSection section;
  section.space = space_;
  section.keys = {{1, 1}, {2, 1}};
  std::vector<std::byte> bytes;
  wire::Header header;
  wire::write_frame(bytes, header,
                    wire::Lookup{client_.session, LookupId{7}, wire::LookupMode::pin, {section}});
  for (int i = 0; i < 300; ++i) {
    Party noisy(network_, clock_, "noisy");
    connect(noisy);
    ASSERT_TRUE(hello(noisy));
    std::vector<std::byte> garbled = bytes;
    for (std::uint64_t flips = 1 + network_.random().below(4); flips > 0; --flips) {
      garbled[network_.random().below(garbled.size())] ^=
          static_cast<std::byte>(1U << network_.random().below(8));
    }
    ASSERT_TRUE(noisy.fabric_->send(noisy.server, garbled));
    run_for(milliseconds(1));
    ASSERT_EQ(service_->shard().check_invariants(), "");
  }
  EXPECT_TRUE(lookup(client_, 8, {1, 2}));
}

}  // namespace
}  // namespace membrain
