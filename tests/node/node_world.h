// A simulated cluster around one real node: a scripted shard and a client that speak the protocol.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/checksum.h"
#include "base/clock.h"
#include "cache/node/node_service.h"
#include "protocol/copy_messages.h"
#include "protocol/messages.h"
#include "protocol/proofs.h"
#include "transport/fabric.h"
#include "transport/loop.h"
#include "transport/sim_fabric.h"

namespace membrain::node_test {

using wire::ItemStatus;

inline constexpr std::string_view kSecret = "a secret";

inline std::vector<std::byte> content_of(std::uint64_t key, std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 13 + key * 31);
  return bytes;
}

/// The upper half of `key` says where it lies among the shards.
inline wire::BlockMeta meta_of(std::uint64_t key) {
  wire::BlockMeta meta;
  meta.space = NamespaceId{7};
  meta.era = Era{1};
  meta.key = {key, (key >> 32 << 32) | 1};
  return meta;
}

inline Digest grant_key_of(Epoch epoch) {
  Digest key{};
  key[0] = static_cast<std::byte>(epoch.value);
  return key;
}

inline wire::SessionProof proof_of(Epoch epoch) {
  wire::SessionProof proof;
  proof.session = SessionId{5};
  proof.epoch = epoch;
  proof.mac = session_mac(grant_key_of(epoch), proof);
  return proof;
}

/// A server by script that leads one shard: accepts, notes, and answers what it is told to.
class FakeShard final : public Receiver {
 public:
  FakeShard(SimNetwork& network, ManualClock& clock, const std::string& name = "shard",
            ShardId leads_shard = {}, Epoch in_epoch = Epoch{3})
      : shard(leads_shard),
        epoch(in_epoch),
        loop_(clock),
        fabric_(network.make_fabric(loop_, name)) {
    list = {1, {{shard, 0, name}}};
    fabric_->set_receiver(*this);
    EXPECT_TRUE(fabric_->listen(name));
  }

  void on_message(PeerId from, std::span<const std::byte> bytes, Payload) override {
    const auto frame = wire::read_frame(bytes);
    ASSERT_TRUE(frame);
    const OpId op = frame->header.op;
    if (frame->header.type == wire::Type::shards) {
      ++questions;
      return reply(from, op, list);
    }
    EXPECT_EQ(frame->header.shard, shard);
    if (!leads) return reply(from, op, wire::Refused{Errc::unavailable, "it does not lead"});
    switch (frame->header.type) {
      case wire::Type::register_node:
        return on_register(from, op, *wire::read_body<wire::RegisterNode>(frame->body));
      case wire::Type::report: {
        if (deaf_reports > 0) return static_cast<void>(--deaf_reports);
        const auto report = *wire::read_body<wire::Report>(frame->body);
        if (report.portion == 0) held.clear();
        if (report.last) ++reports;
        return reply(from, op, wire::Reported{take(report.items)});
      }
      case wire::Type::publish: {
        ++publishes;
        if (deaf_publishes > 0) return static_cast<void>(--deaf_publishes);
        const auto publish = *wire::read_body<wire::Publish>(frame->body);
        return reply(from, op, wire::Published{take(publish.items)});
      }
      case wire::Type::need_slots:
        return on_need(from, op, *wire::read_body<wire::NeedSlots>(frame->body));
      case wire::Type::freed: {
        const auto message = *wire::read_body<wire::Freed>(frame->body);
        freed.insert(freed.end(), message.items.begin(), message.items.end());
        return reply(from, op, wire::FreedNoted{});
      }
      case wire::Type::corrupt:
        corrupt.push_back(wire::read_body<wire::Corrupt>(frame->body)->at);
        return reply(from, op, wire::CorruptNoted{});
      case wire::Type::copies_ended: {
        const auto message = *wire::read_body<wire::CopiesEnded>(frame->body);
        ++copy_words;
        if (deaf_copies > 0) return static_cast<void>(--deaf_copies);
        for (const wire::CopyEnd& end : message.items) copied[end.copy.value] = end.status;
        return reply(from, op, wire::CopiesNoted{});
      }
      case wire::Type::leave:
        ++farewells;
        return reply(from, op, wire::Leaving{alone});
      case wire::Type::node_heartbeat:
        ++heartbeats;
        if (!silent) reply(from, op, wire::NodeAlive{});
        return;
      default:
        FAIL() << "the node sent " << static_cast<int>(frame->header.type);
    }
  }
  void on_lost(PeerId, const Error&) override {}

  void send_free(std::vector<wire::SlotRef> items, Epoch in_epoch) {
    wire::FreeSlots message;
    message.node = node;
    message.incarnation = incarnation;
    message.epoch = in_epoch;
    message.items = std::move(items);
    reply(peer, OpId{}, message);
  }
  void send_copy(wire::CopyBlocks order, Epoch in_epoch) {
    order.node = node;
    order.incarnation = incarnation;
    order.epoch = in_epoch;
    order.proof = proof_of(in_epoch);
    order.deadline_ms = 30'000;
    reply(peer, OpId{}, order);
  }
  [[nodiscard]] wire::SlotRef at(std::uint64_t key) const {
    const wire::SlotEntry& entry = held.at(key);
    return {entry.slot, entry.generation};
  }

  ShardId shard;
  wire::ShardList list;  ///< what it says of the shards
  bool leads = true;
  Epoch epoch;
  std::uint32_t map_version = 1;
  std::uint32_t ttl_ms = 3000;
  bool silent = false;     ///< beats are not answered
  int deaf_reports = 0;    ///< so many Report go unheard
  int deaf_publishes = 0;  ///< so many Publish go unheard
  int deaf_needs = 0;      ///< so many NeedSlots are not answered
  bool gives_victims = true;
  int deaf_copies = 0;                           ///< so many CopiesEnded go unheard
  std::map<std::uint64_t, ItemStatus> verdicts;  ///< by key; `ok` for others

  PeerId peer;
  NodeId node;
  Incarnation incarnation;
  std::map<std::uint64_t, wire::SlotEntry> held;  ///< by key
  std::vector<wire::SlotRef> freed;
  std::vector<wire::SlotRef> corrupt;
  std::map<std::uint64_t, ItemStatus> copied;  ///< by copy
  int farewells = 0;                           ///< Leave
  std::uint64_t alone = 0;                     ///< what they are answered
  int copy_words = 0;                          ///< CopiesEnded
  int questions = 0;                           ///< which shards there are
  int registrations = 0;
  int reports = 0;
  int publishes = 0;
  int heartbeats = 0;
  std::vector<wire::NeedSlots> asked;

 private:
  template <class Message>
  void reply(PeerId to, OpId op, const Message& message) {
    wire::Header header;
    header.op = op;
    header.shard = shard;
    header.epoch = epoch;
    std::vector<std::byte> frame;
    static_cast<void>(fabric_->send(to, wire::write_frame(frame, header, message)));
  }

  void on_register(PeerId from, OpId op, const wire::RegisterNode& request) {
    EXPECT_EQ(request.proof,
              register_proof(kSecret, request.node, request.incarnation, fabric_->binding(from)));
    peer = from;
    node = request.node;
    incarnation = request.incarnation;
    ++registrations;
    reply(from, op, wire::Accepted{epoch, grant_key_of(epoch), ttl_ms, map_version});
  }

  std::vector<ItemStatus> take(const std::vector<wire::SlotEntry>& items) {
    std::vector<ItemStatus> statuses;
    for (const wire::SlotEntry& entry : items) {
      const auto told = verdicts.find(entry.meta.key.low);
      statuses.push_back(told == verdicts.end() ? ItemStatus::ok : told->second);
      if (statuses.back() == ItemStatus::ok) held[entry.meta.key.low] = entry;
    }
    return statuses;
  }

  void on_need(PeerId from, OpId op, const wire::NeedSlots& request) {
    asked.push_back(request);
    if (deaf_needs > 0) return static_cast<void>(--deaf_needs);
    wire::FreeSlots answer;
    answer.node = node;
    answer.incarnation = incarnation;
    answer.epoch = epoch;
    if (gives_victims) choose(request, answer.items);
    reply(from, op, answer);
  }

  void choose(const wire::NeedSlots& request, std::vector<wire::SlotRef>& victims) {
    const auto wanted = [&](const wire::SlotEntry& entry) {
      const wire::SlotRef ref{entry.slot, entry.generation};
      const auto& candidates = request.candidates;
      return (entry.slot_bytes == request.slot_bytes && victims.size() < request.count) ||
             std::find(candidates.begin(), candidates.end(), ref) != candidates.end();
    };
    for (auto next = held.begin(); next != held.end();) {
      if (!wanted(next->second)) {
        ++next;
        continue;
      }
      victims.push_back({next->second.slot, next->second.generation});
      next = held.erase(next);
    }
  }

  Loop loop_;
  std::unique_ptr<Fabric> fabric_;
};

/// A client's data loop by script.
class FakeClient final : public Receiver {
 public:
  FakeClient(SimNetwork& network, ManualClock& clock, std::string_view name)
      : loop_(clock), fabric_(network.make_fabric(loop_, name)) {
    fabric_->set_receiver(*this);
  }
  void connect(Address to) { loop_.spawn(connecting(std::move(to))); }
  /// Nothing that it sends is under way.
  [[nodiscard]] bool quiet() const {
    return std::ranges::all_of(sendings_, [](const Sending& one) { return one.done.done(); });
  }

  OpId store(const std::vector<std::pair<std::uint64_t, std::vector<std::byte>>>& blocks,
             Epoch epoch = Epoch{3}, std::uint32_t deadline_ms = 1000) {
    wire::Store request;
    request.proof = proof_of(epoch);
    request.deadline_ms = deadline_ms;
    Sending& sending = sendings_.emplace_back(loop_);
    for (const auto& [key, content] : blocks) {
      request.items.push_back(
          {meta_of(key), static_cast<std::uint32_t>(content.size()), checksum(content)});
      sending.bytes.insert(sending.bytes.end(), content.begin(), content.end());
    }
    return send_with_payload(request, sending);
  }
  OpId store_raw(const wire::Store& request, std::vector<std::byte> content) {
    Sending& sending = sendings_.emplace_back(loop_);
    sending.bytes = std::move(content);
    return send_with_payload(request, sending);
  }
  template <class Message>
  OpId send(const Message& message, OpId op = {}) {
    if (!op) op = OpId{++ops_};
    wire::Header header;
    header.op = op;
    std::vector<std::byte> frame;
    static_cast<void>(fabric_->send(peer, wire::write_frame(frame, header, message)));
    return op;
  }
  OpId fetch(const std::vector<wire::SlotEntry>& blocks, Epoch epoch = Epoch{3}) {
    wire::Fetch request;
    request.proof = proof_of(epoch);
    request.deadline_ms = 1000;
    for (const wire::SlotEntry& entry : blocks) {
      request.items.push_back({entry.meta.space, entry.meta.key, entry.meta.part, entry.slot,
                               entry.generation, 0, entry.length,
                               static_cast<std::uint32_t>(entry.meta.key.low)});
    }
    return send(request);
  }
  void close() { loop_.spawn(closing()); }

  void on_message(PeerId, std::span<const std::byte> received, Payload payload) override {
    const auto frame = wire::read_frame(received);
    ASSERT_TRUE(frame);
    const std::uint64_t op = frame->header.op.value;
    if (frame->header.type == wire::Type::stored) {
      stored[op] = wire::read_body<wire::Stored>(frame->body)->statuses;
    } else if (frame->header.type == wire::Type::reserved_slots) {
      reserved[op] = *wire::read_body<wire::ReservedSlots>(frame->body);
    } else if (frame->header.type == wire::Type::refused) {
      refused[op] = wire::read_body<wire::Refused>(frame->body)->code;
    } else if (frame->header.type == wire::Type::data) {
      auto message = *wire::read_body<wire::Data>(frame->body);
      if (hold_payloads && payload.size() > 0) {
        held.push_back(std::move(payload));
        return;
      }
      messages_with_bytes += payload.size() > 0 ? 1 : 0;
      loop_.spawn(receive(op, std::move(message), std::move(payload)));
    }
  }
  void on_lost(PeerId, const Error&) override { lost = true; }

  PeerId peer;
  bool lost = false;
  bool hold_payloads = false;
  bool repeats = false;  ///< the network repeats frames: a Fetch may be answered twice
  std::vector<Payload> held;
  int messages_with_bytes = 0;
  std::map<std::uint64_t, std::vector<ItemStatus>> stored;
  std::map<std::uint64_t, wire::ReservedSlots> reserved;
  std::map<std::uint64_t, Errc> refused;
  std::map<std::uint64_t, std::map<std::uint32_t, ItemStatus>> fetched;  ///< by op, then tag
  std::map<std::uint32_t, std::vector<std::byte>> bytes;                 ///< by tag

 private:
  struct Sending {
    explicit Sending(Loop& loop) : done(loop.ready()) {}
    std::vector<std::byte> bytes;
    Completion done;
  };

  OpId send_with_payload(const wire::Store& request, Sending& sending) {
    const OpId op{++ops_};
    wire::Header header;
    header.op = op;
    std::vector<std::byte> frame;
    wire::write_frame(frame, header, request);
    const Segment segments[] = {{sending.bytes.data(), sending.bytes.size()}};
    fabric_->send(peer, frame, segments, sending.done);
    return op;
  }
  Task<> connecting(Address to) {
    Task<Result<PeerId>> connected = fabric_->connect(std::move(to), loop_.now() + kConnect);
    const Result<PeerId> got = co_await connected;
    if (got) peer = *got;
  }
  Task<> closing() {
    Task<> closed = fabric_->close(peer);
    co_await closed;
  }
  Task<> receive(std::uint64_t op, wire::Data message, Payload payload) {
    std::vector<std::byte> buffer(payload.size());
    if (!buffer.empty()) {
      const Segment segments[] = {{buffer.data(), buffer.size()}};
      Completion landed(loop_.ready());
      fabric_->receive(std::move(payload), segments, landed);
      const Result<> outcome = co_await landed;
      if (!outcome) co_return;
    }
    std::size_t offset = 0;
    for (const wire::DataItem& item : message.items) {
      EXPECT_TRUE(repeats || !fetched[op].contains(item.tag)) << "an item came twice";
      fetched[op][item.tag] = item.status;
      if (item.status != ItemStatus::ok) continue;
      const auto from = buffer.begin() + static_cast<std::ptrdiff_t>(offset);
      bytes[item.tag].assign(from, from + item.length);
      offset += item.length;
    }
    EXPECT_EQ(offset, buffer.size());
  }

  static constexpr Duration kConnect = std::chrono::seconds(1);
  Loop loop_;
  std::unique_ptr<Fabric> fabric_;
  std::list<Sending> sendings_;
  std::uint64_t ops_ = 100;
};

/// One node process: its two loops over an arena that may outlive it.
class NodeProcess {
 public:
  NodeProcess(SimNetwork& network, ManualClock& clock, Arena& arena, NodeConfig config)
      : control_loop_(clock),
        data_loop_(clock),
        control_(network.make_fabric(control_loop_, "node")),
        data_(network.make_fabric(data_loop_, "node")),
        service_(*control_, *data_, arena, std::move(config)) {}

  void stop() { control_loop_.spawn(stopping()); }
  [[nodiscard]] bool stopped() const { return stopped_; }
  [[nodiscard]] NodeService& service() { return service_; }

 private:
  Task<> stopping() {
    Task<> stop = service_.stop();
    co_await stop;
    stopped_ = true;
  }
  Loop control_loop_;
  Loop data_loop_;
  std::unique_ptr<Fabric> control_;
  std::unique_ptr<Fabric> data_;
  NodeService service_;
  bool stopped_ = false;
};

class NodeWorld : public ::testing::Test {
 protected:
  explicit NodeWorld(std::uint64_t capacity = 1 << 20, SimFaults faults = {})
      : NodeWorld(*Arena::anonymous(capacity, NodeId{77}), faults) {}
  explicit NodeWorld(std::unique_ptr<Arena> memory, SimFaults faults = {})
      : network(clock, 42, faults), arena(std::move(memory)) {}
  ~NodeWorld() override {
    stop_node();
    EXPECT_TRUE(run_until([&] { return client.quiet(); }));
  }

  [[nodiscard]] virtual NodeConfig config() const {
    NodeConfig config;
    config.server = "shard";
    config.secret = kSecret;
    config.host = "host";
    config.listen = "node-data";
    return config;
  }
  void start_node() {
    node = std::make_unique<NodeProcess>(network, clock, *arena, config());
    ASSERT_TRUE(node->service().start());
  }
  void stop_node() {
    if (!node) return;
    node->stop();
    EXPECT_TRUE(run_until([&] { return node->stopped(); }));
    EXPECT_TRUE(sound());
    node.reset();
  }
  /// Node, shard and client know each other.
  void start() {
    start_node();
    ASSERT_TRUE(run_until([&] { return node->service().status().connected; }));
    client.connect("node-data");
    ASSERT_TRUE(run_until([&] { return static_cast<bool>(client.peer); }));
  }
  [[nodiscard]] bool sound() const {
    const Result<> sound = node->service().check_invariants();
    EXPECT_TRUE(sound) << sound.error().context;
    return sound.has_value();
  }
  bool run_until(const std::function<bool()>& done, int steps = 200'000) {
    for (int i = 0; i < steps && !done(); ++i) network.step();
    return done();
  }
  void run_for(Duration duration) {
    const TimePoint end = clock.now() + duration;
    run_until([&] { return clock.now() >= end; });
  }
  /// Stores one block and waits for the answer.
  ItemStatus store(std::uint64_t key, std::size_t size = 16384) {
    const OpId op = client.store({{key, content_of(key, size)}}, shard.epoch);
    EXPECT_TRUE(run_until([&] { return client.stored.contains(op.value); }));
    return client.stored[op.value].empty() ? ItemStatus::refused : client.stored[op.value][0];
  }
  /// Fetches one block and waits for the answer.
  ItemStatus fetch(const wire::SlotEntry& entry) {
    const OpId op = client.fetch({entry}, shard.epoch);
    EXPECT_TRUE(run_until([&] { return client.fetched.contains(op.value); }));
    return client.fetched[op.value].begin()->second;
  }

  ManualClock clock;
  SimNetwork network;
  std::unique_ptr<Arena> arena;
  FakeShard shard{network, clock};
  FakeClient client{network, clock, "client"};
  std::unique_ptr<NodeProcess> node;
};

}  // namespace membrain::node_test
