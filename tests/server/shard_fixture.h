// A shard without a network, for tests: one client's session, nodes, and short ways to speak.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/key.h"
#include "base/log.h"
#include "server/shard.h"
#include "server/term.h"

namespace membrain::server_test {

using std::chrono::milliseconds;
using std::chrono::seconds;
using wire::ItemStatus;

inline constexpr std::uint32_t kSlotBytes = 4096;

class ShardTest : public testing::Test {
 protected:
  ShardTest() {
    set_log_level(LogLevel::error);
    start();
  }
  void TearDown() override { EXPECT_EQ(shard_->check_invariants(), ""); }

  /// A server's start: the next epoch, nothing in memory.
  void start() {
    ShardParams params;
    params.term = tenure_.next_term();
    params.term.range = range_;
    params.session_ttl = seconds(10);
    params.node_ttl = seconds(4);
    params.expected_blocks = 8;
    params.start = now_;
    params.sessions = limits_;
    params.replicas = replicas_;
    params.copies = copies_;
    shard_ = std::make_unique<Shard>(std::move(params));
  }

  // Clients.

  SessionId hello(const std::string& tenant = "default", SessionId resume = {}) {
    wire::Hello hello;
    hello.tenant = tenant;
    hello.resume = resume;
    const SessionId fresh{next_session_++};
    const auto welcome = shard_->hello(hello, fresh, now_);
    EXPECT_TRUE(welcome) << welcome.error().context;
    return fresh;
  }
  static wire::OpenNamespace opening(const std::string& model, const std::string& seed = "") {
    Namespace space;
    space.model = model;
    space.hash_seed_fingerprint = seed;
    return {digest_of(space), family_of(space), model};
  }
  /// A session with "a model" open; the namespace's id in `space_`.
  SessionId open() {
    const SessionId session = hello();
    const auto opened = shard_->open(session, opening("a model"), now_);
    EXPECT_TRUE(opened);
    space_ = opened->id;
    era_ = opened->era;
    return session;
  }
  static BlockKey key(std::uint64_t number) { return {number, number * 7919 + 1}; }
  static std::vector<BlockKey> keys(std::vector<std::uint64_t> numbers) {
    std::vector<BlockKey> made;
    for (const std::uint64_t number : numbers) made.push_back(key(number));
    return made;
  }
  wire::Lookup looking(SessionId session, std::uint64_t lookup, std::vector<std::uint64_t> numbers,
                       wire::LookupRule rule = wire::LookupRule::prefix) const {
    wire::Lookup request;
    request.session = session;
    request.lookup = LookupId{lookup};
    request.mode = lookup == 0 ? wire::LookupMode::probe : wire::LookupMode::pin;
    request.sections.push_back({space_, rule, 0, 1, keys(std::move(numbers))});
    return request;
  }
  /// Lookup id 0 probes.
  wire::FoundSection look(SessionId session, std::uint64_t lookup,
                          std::vector<std::uint64_t> numbers,
                          wire::LookupRule rule = wire::LookupRule::prefix) {
    const auto found = shard_->lookup(looking(session, lookup, std::move(numbers), rule), now_);
    EXPECT_TRUE(found) << found.error().context;
    return found ? found->sections.at(0) : wire::FoundSection{};
  }
  void unpin(SessionId session, std::uint64_t lookup, std::vector<std::uint64_t> numbers = {}) {
    wire::Unpin request;
    request.session = session;
    request.items.push_back(
        {LookupId{lookup}, numbers.empty() ? NamespaceId{} : space_, keys(std::move(numbers))});
    EXPECT_TRUE(shard_->unpin(request, now_));
  }
  static bool has(const wire::FoundSection& found, std::size_t block) {
    return (found.bitmap.at(block / 8) >> (block % 8) & 1U) != 0;
  }

  // Nodes.

  void register_node(std::uint32_t node = 1, std::uint32_t incarnation = 1, bool report = true,
                     Tier tier = Tier::host) {
    wire::RegisterNode request;
    request.node = NodeId{node};
    request.incarnation = Incarnation{incarnation};
    request.address = "node:1";
    request.tier = tier;
    const auto accepted = shard_->register_node(request, now_);
    ASSERT_TRUE(accepted) << accepted.error().context;
    incarnations_[node] = incarnation;
    if (report) report_all(node, {});
  }
  /// An engine that lends what lies on its GPU.
  void register_lender(std::uint32_t node) { register_node(node, 1, true, Tier::device); }
  [[nodiscard]] Incarnation life(std::uint32_t node) { return Incarnation{incarnations_[node]}; }
  /// Block `number` in slot `number` under generation 100 + number, hanging on `parent`.
  wire::SlotEntry entry(std::uint64_t number, std::uint64_t parent = 0, std::uint32_t depth = 0) {
    wire::SlotEntry item;
    item.meta.space = space_;
    item.meta.era = era_;
    item.meta.key = key(number);
    item.meta.parent = parent == 0 ? BlockKey{} : key(parent);
    item.meta.depth = depth;
    item.slot = SlotId{static_cast<std::uint32_t>(number)};
    item.generation = Generation{100 + number};
    item.length = 1000;
    item.slot_bytes = kSlotBytes;
    item.checksum = {number, number};
    return item;
  }
  ItemStatus publish(const wire::SlotEntry& item, std::uint32_t node = 1) {
    const auto published = shard_->publish({NodeId{node}, life(node), {item}}, now_);
    EXPECT_TRUE(published) << published.error().context;
    return published ? published->statuses.at(0) : ItemStatus::unavailable;
  }
  /// A prompt's blocks `first` to `first + count - 1`, each hanging on the one before.
  void publish_prompt(std::uint64_t first, std::uint32_t count, std::uint32_t node = 1) {
    for (std::uint32_t depth = 0; depth < count; ++depth) {
      EXPECT_EQ(publish(entry(first + depth, depth == 0 ? 0 : first + depth - 1, depth), node),
                ItemStatus::ok);
    }
  }
  Result<wire::Reported> report(std::uint32_t node, std::uint32_t portion, bool last,
                                std::vector<wire::SlotEntry> items) {
    return shard_->report({NodeId{node}, life(node), portion, last, std::move(items)}, now_);
  }
  std::vector<ItemStatus> report_all(std::uint32_t node, std::vector<wire::SlotEntry> items) {
    const auto reported = report(node, 0, true, std::move(items));
    EXPECT_TRUE(reported);
    return reported ? reported->statuses : std::vector<ItemStatus>{};
  }
  std::vector<wire::SlotRef> need(std::uint32_t count, std::uint32_t node = 1,
                                  std::vector<wire::SlotRef> candidates = {}) {
    const auto answer = shard_->need_slots(
        {NodeId{node}, life(node), kSlotBytes, count, std::move(candidates)}, now_);
    EXPECT_TRUE(answer) << answer.error().context;
    return answer ? answer->items : std::vector<wire::SlotRef>{};
  }
  void freed(std::vector<wire::SlotRef> slots, std::uint32_t node = 1) {
    EXPECT_TRUE(shard_->freed({NodeId{node}, life(node), std::move(slots)}, now_));
  }
  /// As the service does it.
  Result<Era> clear(const wire::Clear& request) {
    const Result<Era> era = shard_->era_after_clear(request, now_);
    if (!era) return era;
    Task<Result<>> keeping = tenure_.set_era(shard_->epoch(), request.space, *era);
    keeping.start();
    shard_->begin_era(request.space, *era);
    return era;
  }
  static wire::SlotRef slot(std::uint64_t number) {
    return {SlotId{static_cast<std::uint32_t>(number)}, Generation{100 + number}};
  }

  /// Time passes in steps in which everybody listens and these nodes and sessions are heard.
  void pass(Duration time, std::vector<SessionId> alive = {},
            std::vector<std::uint32_t> nodes = {1}) {
    for (Duration passed{}; passed < time; passed += milliseconds(500)) {
      now_ += milliseconds(500);
      for (const SessionId session : alive) EXPECT_TRUE(shard_->heartbeat(session, now_));
      for (const std::uint32_t node : nodes) {
        static_cast<void>(shard_->node_heartbeat({NodeId{node}, life(node), 0}, now_));
      }
      shard_->tick(now_);
    }
  }
  [[nodiscard]] std::size_t blocks() const { return shard_->catalog().counts().blocks; }

  TimePoint now_{std::chrono::hours(1)};
  KeyRange range_;  ///< of the next start
  LoneTenure tenure_;
  SessionLimits limits_;
  ReplicaRule replicas_;
  CopyLimits copies_;
  std::unique_ptr<Shard> shard_;
  NamespaceId space_;
  Era era_;
  std::uint64_t next_session_ = 1;
  std::unordered_map<std::uint32_t, std::uint32_t> incarnations_;
};

}  // namespace membrain::server_test
