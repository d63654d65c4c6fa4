// What happens at one shard while a client waits for another.
#include <gtest/gtest.h>

#include <optional>

#include "tests/client/fake_cluster.h"

namespace membrain::client_test {
namespace {

/// Two shards with half of the keys each; the second is slow to answer lookups.
class SplitSession : public ClientTest {
 protected:
  SplitSession() {
    shard_.shards = {1, {{ShardId{0}, 0, "server:9201"}, {ShardId{1}, kHalf, "other:9201"}}};
    other_.shards = shard_.shards;
    begin();
    first_ = number_of([](const BlockKey& key) { return key.high < kHalf; }, 1);
    second_ = number_of([](const BlockKey& key) { return key.high >= kHalf; }, 1);
    publish(first_, 100, {&node1_});
    publish(second_, 100, {&node1_});
    other_.catalog = shard_.catalog;
    other_.silent = true;
  }
  /// "Another" model, while the first shard is away and the other hangs.
  void open_another_while_the_other_is_asked(std::optional<Result<OpenedNamespace>>& opened) {
    run_for(milliseconds(20));
    network_.pause("other");
    Namespace space = test_namespace();
    space.model = "another";
    control_loop_.spawn(put_into(core_->open_namespace(space), opened));
    run_for(milliseconds(20));
  }
  /// The same, and the first shard is here again.
  void open_another_and_come_back_while_the_other_is_asked(
      std::optional<Result<OpenedNamespace>>& opened) {
    shard_.deny = true;  // so that it cannot come back
    shard_.close(*shard_.peers.begin());
    open_another_while_the_other_is_asked(opened);
    const std::size_t lists = shard_.node_lists;
    shard_.deny = false;
    step_until([&] { return shard_.node_lists > lists; });
    run_for(milliseconds(1));
  }
  /// Nobody is slow, and the first shard's heartbeats are ten seconds apart.
  void beat_seldom() {
    other_.silent = false;
    shard_.ttl_ms = 30000;
    shard_.close(*shard_.peers.begin());  // the new session has that time to live
    step_until([&] { return shard_.hellos.size() == 2U && core_->connected(); });
  }
  /// The upper half of the first shard's keys is the shard's on "fresh", which the client finds.
  void split_first_shard(const FakeShard& fresh) {
    shard_.shards = {2,
                     {{ShardId{0}, 0, "server:9201"},
                      {ShardId{2}, kHalf / 2, "fresh:9201"},
                      {ShardId{1}, kHalf, "other:9201"}}};
    step_until([&] { return fresh.opened == 1 && fresh.node_lists > 0; });
    run_for(milliseconds(1));
  }
  /// The next block behind `after` of the same shard.
  [[nodiscard]] unsigned next(unsigned after) const {
    const bool upper = key_of(after).high >= kHalf;
    return number_of([=](const BlockKey& key) { return (key.high >= kHalf) == upper; }, after + 1);
  }
  static constexpr std::uint64_t kHalf = std::uint64_t{1} << 63;
  FakeShard other_{network_, clock_, "other"};
  unsigned first_ = 0;   ///< a block of the first shard
  unsigned second_ = 0;  ///< and of the other

 private:
  template <class Is>
  unsigned number_of(Is is, unsigned number) const {
    while (!is(key_of(number))) ++number;
    return number;
  }
};

TEST_F(SplitSession, AnAnswerToASessionThatWasReplacedMeanwhileIsNone) {
  std::optional<Result<Match>> found;
  control_loop_.spawn(
      put_into(core_->lookup(space_, {hash_of(first_), hash_of(second_)}, {}), found));
  step_until([&] { return shard_.pins.size() == 1U; });
  run_for(milliseconds(1));
  const std::size_t lists = shard_.node_lists;
  shard_.close(*shard_.peers.begin());
  step_until([&] { return shard_.hellos.size() == 2U && shard_.node_lists > lists; });
  run_for(milliseconds(1));
  EXPECT_FALSE(found.has_value()) << "it waits for the other";
  other_.silent = false;
  step_until([&] { return found.has_value(); });
  ASSERT_TRUE(found->has_value());
  EXPECT_EQ((*found)->prefix_blocks(), 0U) << "the new session was not told to pin it";
  EXPECT_FALSE((*found)->answered(0));
  EXPECT_FALSE((*found)->pinned());
}

TEST_F(SplitSession, WhatAShardPinsBeyondTheJointPrefixIsUnpinnedInTheSameTurn) {
  const unsigned beyond = next(first_);
  publish(beyond, 100, {&node1_});
  other_.catalog.clear();
  other_.silent = false;
  const Result<Match> found = lookup({first_, second_, beyond, next(second_)});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->prefix_blocks(), 1U) << "the second block is not there";
  const TimePoint told = clock_.now();
  step_until([&] { return !shard_.unpins.empty(); });
  EXPECT_LT(clock_.now() - told, milliseconds(1)) << "not with the next heartbeat";
  ASSERT_FALSE(shard_.unpins.empty());
  const std::vector<wire::UnpinItem>& items = shard_.unpins.front().items;
  ASSERT_EQ(items.size(), 1U);
  EXPECT_EQ(items[0].lookup, shard_.lookups.front().lookup);
  EXPECT_EQ(items[0].keys, std::vector<BlockKey>{key_of(beyond)});
}

TEST_F(SplitSession, ANamespaceIsOpenedAtAShardThatCameBackWhileAnotherAnswered) {
  std::optional<Result<OpenedNamespace>> opened;
  open_another_and_come_back_while_the_other_is_asked(opened);
  const std::size_t before = shard_.opened;
  EXPECT_FALSE(opened.has_value()) << "it waits for the other";
  network_.resume("other");
  step_until([&] { return opened.has_value(); });
  ASSERT_TRUE(opened->has_value());
  step_until([&] { return shard_.opened == before + 1; });
}

TEST_F(SplitSession, ANamespaceIsOpenedAtAShardThatCameByASplitWhileAnotherAnswered) {
  FakeShard fresh(network_, clock_, "fresh");
  shard_.epoch = Epoch{0};  // so that it cannot come back, and is asked again who leads what
  shard_.close(*shard_.peers.begin());
  std::optional<Result<OpenedNamespace>> opened;
  open_another_while_the_other_is_asked(opened);
  split_first_shard(fresh);
  EXPECT_FALSE(opened.has_value()) << "it waits for the other";
  network_.resume("other");
  step_until([&] { return opened.has_value(); });
  ASSERT_TRUE(opened->has_value());
  step_until([&] { return fresh.opened == 2; });
}

TEST_F(SplitSession, AProbeThatIsLateSaysNothingOfTheServer) {
  other_.silent = false;
  run_for(milliseconds(100));
  shard_.deaf_to_probes = other_.deaf_to_probes = true;
  const std::size_t lists = shard_.node_lists;
  const std::vector<std::byte> bytes = content(1 << 20, 1);
  for (unsigned number = 1000; number < 1020; ++number) {
    StoreItem item;
    item.hash = hash_of(number);
    item.from = {{bytes.data(), bytes.size()}};
    ASSERT_TRUE(store({item}));
  }
  EXPECT_GT(shard_.probes.size(), 0U);
  EXPECT_LE(shard_.node_lists, lists + 1);
}

TEST_F(SplitSession, ADoubtEndsAHeartbeatThatIsOutWithMorePatience) {
  beat_seldom();
  const std::size_t lists = shard_.node_lists;
  step_until([&] { return shard_.node_lists > lists; });  // a heartbeat: the next in 10 s
  run_for(milliseconds(9900));
  network_.pause("server");
  run_for(milliseconds(200));  // the heartbeat is out, and has 20 s
  LookupOptions options;
  options.timeout = milliseconds(300);
  EXPECT_EQ(lookup({first_}, options).error().code, Errc::timed_out);
  run_for(milliseconds(1100));
  EXPECT_EQ(lookup({first_}, options).error().code, Errc::unavailable) << "its server is away";
}

TEST_F(SplitSession, ACallThatHasMuchTimeDoubtsWhoeverDoesNotAnswerIt) {
  beat_seldom();
  run_for(milliseconds(100));
  network_.pause("server");
  LookupOptions options;
  options.timeout = seconds(30);
  const TimePoint before = clock_.now();
  EXPECT_EQ(lookup({first_}, options).error().code, Errc::unavailable);
  EXPECT_LT(clock_.now() - before, seconds(2));
}

TEST_F(SplitSession, EndsSoonAlthoughAServerHangsThatIsToldOfANamespace) {
  shard_.ttl_ms = 9000;
  std::optional<Result<OpenedNamespace>> opened;
  open_another_and_come_back_while_the_other_is_asked(opened);
  network_.pause("server");
  network_.resume("other");
  step_until([&] { return opened.has_value(); });
  run_for(milliseconds(1));
  const TimePoint before = clock_.now();
  stop();
  EXPECT_LT(clock_.now() - before, seconds(2));
}

TEST_F(SplitSession, AShardThatCameByASplitWhileAnotherAnsweredIsClearedToo) {
  FakeShard fresh(network_, clock_, "fresh");
  other_.silent = false;
  other_.hold_clears = true;
  std::optional<Result<OpenedNamespace>> cleared;
  control_loop_.spawn(put_into(core_->clear(space_), cleared));
  step_until([&] { return shard_.era == 8; });
  run_for(milliseconds(1));
  shard_.epoch = Epoch{0};  // so that it cannot come back, and is asked again who leads what
  shard_.close(*shard_.peers.begin());
  split_first_shard(fresh);
  EXPECT_FALSE(cleared.has_value()) << "it waits for the other";
  other_.hold_clears = false;
  step_until([&] { return cleared.has_value(); });
  EXPECT_TRUE(cleared->has_value());
  EXPECT_EQ(fresh.era, 8U) << "half of a shard's keys kept their era";
}

}  // namespace
}  // namespace membrain::client_test
