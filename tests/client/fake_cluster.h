// A cluster for tests of the client: a shard and nodes that follow a script, on a simulated
// network, and a real ClientCore among them.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/mac.h"
#include "cache/client/client_core.h"
#include "membrain/client.h"
#include "protocol/frame.h"
#include "protocol/messages.h"
#include "tests/transport/await.h"
#include "transport/fabric.h"
#include "transport/loop.h"
#include "transport/sim_network.h"
#include "transport/task.h"

namespace membrain::client_test {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

inline constexpr const char* kSecret = "a secret";

/// Bytes that depend on `seed` and on their place.
std::vector<std::byte> content(std::size_t size, unsigned seed);
BlockHash hash_of(unsigned number);

/// A process that speaks wire messages by a script.
class FakeProcess : public Receiver {
 public:
  FakeProcess(SimNetwork& network, ManualClock& clock, const std::string& process);
  virtual ~FakeProcess();
  FakeProcess(const FakeProcess&) = delete;
  FakeProcess& operator=(const FakeProcess&) = delete;

  void on_message(PeerId peer, std::span<const std::byte> frame, Payload payload) final;
  void on_lost(PeerId peer, const Error& why) override;

  [[nodiscard]] Loop& loop() noexcept { return loop_; }
  [[nodiscard]] Fabric& fabric() noexcept { return *fabric_; }
  void close(PeerId peer);

  /// A frame in answer to `op`.
  template <class Message>
  void answer(PeerId peer, OpId op, const Message& message) {
    std::vector<std::byte> bytes;
    wire::Header head;
    head.op = op;
    head.epoch = epoch;
    wire::write_frame(bytes, head, message);
    [[maybe_unused]] const Result<> sent = fabric().send(peer, bytes);
  }
  /// The same with a payload, which is kept until it was sent.
  template <class Message>
  void answer(PeerId peer, OpId op, const Message& message, std::vector<std::byte> payload) {
    std::vector<std::byte> bytes;
    wire::Header head;
    head.op = op;
    wire::write_frame(bytes, head, message);
    loop_.spawn(send(peer, std::move(bytes), std::move(payload)));
  }

  Epoch epoch{1};
  PeerId last_peer;
  std::set<PeerId> peers;  ///< that sent something, and are not lost

 protected:
  virtual void take(PeerId peer, const wire::Frame& frame, Payload payload) = 0;

 private:
  Task<> send(PeerId peer, std::vector<std::byte> frame, std::vector<std::byte> payload);
  Task<> close_peer(PeerId peer);

  Loop loop_;
  std::unique_ptr<Fabric> fabric_;
};

/// Keeps blocks, and does with a request what its mood says.
class FakeNode final : public FakeProcess {
 public:
  enum class Mood { serve, stale, refuse, corrupt, hang, vanish, stop };

  FakeNode(SimNetwork& network, ManualClock& clock, std::uint32_t id);

  /// Keeps a block part; its place for the shard's answers.
  Location keep(const BlockKey& key, std::uint16_t part, std::vector<std::byte> bytes);
  [[nodiscard]] wire::NodeEntry entry() const;
  void send_data(PeerId peer, OpId op, std::vector<wire::DataItem> items,
                 std::vector<std::byte> payload);

  Mood mood = Mood::serve;
  std::string host = "elsewhere";
  bool alive = true;
  std::size_t items_per_data = 256;
  wire::ItemStatus store_status = wire::ItemStatus::ok;
  bool drop_suspects = false;

  std::vector<std::pair<OpId, wire::Fetch>> fetches;
  std::vector<OpId> cancelled;
  std::vector<wire::Suspect> suspects;
  std::vector<wire::Store> stores;
  /// A writer's requests; without these they are refused.
  std::function<wire::ReservedSlots(const wire::ReserveSlots&)> lend;
  std::function<wire::Stored(const wire::SealSlots&)> seal;
  std::function<wire::WindowOpened()> window;  ///< without it OpenWindow is refused
  std::size_t windows_asked = 0;
  std::vector<wire::SlotRef> given_back;
  std::string door;
  std::map<BlockKey, std::vector<std::byte>> stored;

 private:
  struct Kept {
    BlockKey key;
    std::uint16_t part = 0;
    Generation generation;
    std::vector<std::byte> bytes;
  };

  void take(PeerId peer, const wire::Frame& frame, Payload payload) override;
  void take_fetch(PeerId peer, OpId op, const wire::Fetch& fetch);
  void take_from_writer(PeerId peer, const wire::Frame& frame);
  Task<> take_store(PeerId peer, OpId op, wire::Store store, Payload payload);
  [[nodiscard]] wire::ItemStatus look(const wire::FetchItem& item) const;

  NodeId id_;
  std::string name_;
  std::map<SlotId, Kept> slots_;
  std::uint64_t next_generation_ = 100;
};

/// Answers lookups from `catalog`.
class FakeShard final : public FakeProcess {
 public:
  FakeShard(SimNetwork& network, ManualClock& clock, const std::string& process = "server");

  wire::ShardList shards{1, {{ShardId{0}, 0, "server:9201"}}};
  std::map<BlockKey, std::vector<std::vector<Location>>> catalog;  ///< by key, part, replica
  std::set<BlockKey> ghosts;  ///< pinned by an answer that was lost; their nodes have gone since
  std::vector<FakeNode*> nodes;
  std::uint32_t ttl_ms = 3000;
  std::uint32_t max_keys = 4096;
  std::uint32_t era = 7;
  bool hold_clears = false;        ///< they are not answered
  Tier tier = Tier::host;          ///< of every replica
  bool silent = false;             ///< answers nothing but Hello, Nodes and Open
  bool deny = false;               ///< refuses Hello
  std::size_t deaf_to_unpins = 0;  ///< so many Unpins are not answered

  LookupId unwelcome;  ///< refused: there is no room for its pins

  bool deaf_to_probes = false;       ///< ProbeParts are not answered
  bool short_probe_answers = false;  ///< only of the first eight parts

  std::vector<wire::ProbeParts> probes;
  std::vector<wire::Hello> hellos;
  std::vector<wire::Lookup> lookups;
  std::vector<wire::Unpin> unpins;
  std::size_t opened = 0;
  std::size_t node_lists = 0;
  std::size_t requests = 0;  ///< of all kinds but heartbeats and lists of nodes
  std::set<std::pair<SessionId, LookupId>> pins;

 private:
  void take(PeerId peer, const wire::Frame& frame, Payload payload) override;
  void take_hello(PeerId peer, OpId op, const wire::Hello& hello);
  void take_unpin(PeerId peer, OpId op, const wire::Unpin& unpin);
  void take_rest(PeerId peer, const wire::Frame& frame);
  void take_probe(PeerId peer, OpId op, const wire::ProbeParts& probe);
  wire::Found find(const wire::Lookup& lookup);
  wire::FoundSection find_section(const wire::LookupSection& section, wire::LookupMode mode);

  std::uint64_t next_session_ = 1;
};

/// The cluster: server "server", nodes "node1" and "node2", and a client, not yet started.
class ClientTest : public testing::Test {
 protected:
  explicit ClientTest(SimFaults faults = {}, std::uint64_t seed = 1);
  ~ClientTest() override;

  void start();
  void stop();
  /// `start`, and opens the namespace.
  void begin();
  /// A block of `bytes` under hash `number` with a copy on each of `on`, in the shard's answers.
  std::vector<std::byte> publish(unsigned number, std::size_t size, std::vector<FakeNode*> on,
                                 std::uint16_t part = 0, unsigned seed = 0);
  [[nodiscard]] BlockKey key_of(unsigned number) const;

  Result<Match> lookup(std::vector<unsigned> numbers, LookupOptions options = {});
  Result<TransferReport> fetch(const Match& match, std::vector<FetchItem> items,
                               TransferOptions options = {});
  Result<TransferReport> store(std::vector<StoreItem> items, TransferOptions options = {});

  /// Runs `task` on `loop` to its end (bounded).
  template <class T>
  T await(Loop& loop, Task<T> task) {
    std::optional<T> result;
    loop.spawn(put_into(std::move(task), result));
    step_until([&] { return result.has_value(); });
    return std::move(*result);
  }
  template <class Condition>
  void step_until(Condition condition) {
    for (int i = 0; i < 200'000 && !condition(); ++i) {
      if (before_step_) before_step_();
      network_.step();
    }
    ASSERT_TRUE(condition()) << "it does not come to that";
  }
  void run_for(Duration time) {
    const TimePoint until = clock_.now() + time;
    step_until([&] { return clock_.now() >= until; });
  }

  ManualClock clock_;
  SimNetwork network_;
  FakeShard shard_{network_, clock_};
  FakeNode node1_{network_, clock_, 1};
  FakeNode node2_{network_, clock_, 2};
  Loop control_loop_{clock_};
  Loop data_loop_{clock_};
  std::unique_ptr<Fabric> control_;
  std::unique_ptr<Fabric> data_;
  ClientConfig config_;
  std::unique_ptr<ArenaOpener> opener_;               ///< the client's, when it starts
  std::vector<std::unique_ptr<DeviceLane>> devices_;  ///< likewise
  std::unique_ptr<Windows> windows_;                  ///< likewise
  std::function<void()> before_step_;
  std::unique_ptr<ClientCore> core_;
  OpenedNamespace space_;
  bool started_ = false;
};

Namespace test_namespace();
/// A whole block into `into`.
FetchItem whole(std::uint32_t block, std::span<std::byte> into, std::uint16_t part = 0);

}  // namespace membrain::client_test
