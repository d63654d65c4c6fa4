// The client's session: pins, and what becomes of them when the server goes away.
#include <gtest/gtest.h>

#include "tests/client/fake_cluster.h"
#include "tests/client/reluctant_fabric.h"

namespace membrain::client_test {
namespace {

using Session = ClientTest;

TEST_F(Session, ReleasesOfOneTurnAreOneMessageWhichIsResentUntilItIsAcknowledged) {
  begin();
  std::vector<Match> matches;
  for (unsigned number = 1; number <= 5; ++number) {
    publish(number, 100, {&node1_});
    matches.push_back(lookup({number}).value());
  }
  EXPECT_EQ(shard_.pins.size(), 5U);
  shard_.deaf_to_unpins = 3;
  matches.clear();
  run_for(seconds(5));
  EXPECT_TRUE(shard_.pins.empty());
  ASSERT_GE(shard_.unpins.size(), 4U);
  for (const wire::Unpin& unpin : shard_.unpins) EXPECT_EQ(unpin.items.size(), 5U);
  const std::size_t count = shard_.unpins.size();
  run_for(seconds(5));
  EXPECT_EQ(shard_.unpins.size(), count) << "acknowledged: not sent again";
}

TEST_F(Session, ALookupThatIsNotAnsweredInTimeIsGivenUpAndUnpinned) {
  begin();
  publish(1, 100, {&node1_});
  shard_.silent = true;
  LookupOptions options;
  options.timeout = milliseconds(200);
  const Result<Match> match = lookup({1}, options);
  ASSERT_FALSE(match);
  EXPECT_EQ(match.error().code, Errc::timed_out);
  shard_.silent = false;
  step_until([&] { return !shard_.unpins.empty(); });
}

TEST_F(Session, ALookupWhoseSecondCopyCannotBeSentIsUnpinned) {
  int copies = 0;
  control_ = std::make_unique<ReluctantFabric>(std::move(control_), [&](auto frame) {
    return type_of(frame) == wire::Type::lookup && ++copies > 1;
  });
  begin();
  publish(1, 100, {&node1_});
  std::optional<Result<Match>> found;
  network_.pause("server");  // it takes the first copy in when it goes on
  control_loop_.spawn(put_into(core_->lookup(space_, {hash_of(1)}, {}), found));
  step_until([&] { return found.has_value(); });
  ASSERT_FALSE(found->has_value());
  EXPECT_EQ(found->error().code, Errc::out_of_capacity);
  network_.resume("server");
  step_until([&] { return !shard_.lookups.empty() && !shard_.unpins.empty(); });
  EXPECT_TRUE(shard_.pins.empty());
}

TEST_F(Session, IsUnavailableAtOnceWhileTheServerIsAwayAndComesBackByItself) {
  begin();
  publish(1, 100, {&node1_});
  shard_.close(*shard_.peers.begin());
  shard_.deny = true;  // so that it cannot come back
  step_until([&] { return !core_->connected(); });
  const TimePoint before = clock_.now();
  const Result<Match> match = lookup({1});
  ASSERT_FALSE(match);
  EXPECT_EQ(match.error().code, Errc::unavailable);
  EXPECT_LT(clock_.now() - before, milliseconds(1));
  std::vector<std::byte> bytes(10);
  StoreItem item;
  item.hash = hash_of(5);
  item.from = {{bytes.data(), bytes.size()}};
  run_for(milliseconds(1));
  const Result<TransferReport> stored = store({item});
  ASSERT_FALSE(stored);
  EXPECT_EQ(stored.error().code, Errc::unavailable);

  shard_.deny = false;
  step_until([&] { return core_->connected(); });
  EXPECT_TRUE(lookup({1}));
}

TEST_F(Session, AfterAReconnectItAssertsItsPinsUnderTheSameLookupIds) {
  begin();
  publish(1, 100, {&node1_});
  publish(2, 100, {&node1_});
  Match kept = lookup({1}).value();
  {
    const Match released = lookup({2}).value();
    shard_.close(*shard_.peers.begin());
    step_until([&] { return !core_->connected(); });
  }
  shard_.pins.clear();
  shard_.lookups.clear();
  shard_.epoch = Epoch{2};
  step_until([&] { return core_->connected(); });
  ASSERT_EQ(shard_.hellos.size(), 2U);
  EXPECT_EQ(shard_.hellos[1].resume, SessionId{1});
  EXPECT_EQ(shard_.opened, 2U) << "its namespace as well";
  ASSERT_EQ(shard_.lookups.size(), 1U) << "the released one is not";
  EXPECT_EQ(shard_.lookups[0].lookup, kept.state()->claims[0].lookup);
  EXPECT_EQ(shard_.lookups[0].session, SessionId{2});
  EXPECT_EQ(shard_.lookups[0].mode, wire::LookupMode::pin);
  EXPECT_EQ(shard_.lookups[0].sections[0].rule, wire::LookupRule::all);
  EXPECT_EQ(shard_.pins.size(), 1U);
  step_until([&] { return shard_.unpins.size() == 1U; });
  std::vector<std::byte> into(100);
  EXPECT_EQ(fetch(kept, {whole(0, into)})->ok_count(), 1U);
  ASSERT_FALSE(node1_.fetches.empty());
  EXPECT_EQ(node1_.fetches.back().second.proof.session, SessionId{2});
}

TEST_F(Session, AServerThatFallsSilentIsTakenForGone) {
  begin();
  shard_.silent = true;
  step_until([&] { return !core_->connected(); });
  shard_.silent = false;
  step_until([&] { return core_->connected(); });
  EXPECT_GE(shard_.hellos.size(), 2U);
}

TEST_F(Session, AServerThatSendsGarbageIsLeftAndTriedAgain) {
  begin();
  const std::vector<std::byte> garbage = content(300, 5);
  ASSERT_TRUE(shard_.fabric().send(*shard_.peers.begin(), garbage));
  step_until([&] { return !core_->connected(); });
  step_until([&] { return core_->connected(); });
  EXPECT_EQ(shard_.hellos.size(), 2U);
}

TEST_F(Session, AnswersThatDoNotFitTheLookupAreCorruptAndUnpinned) {
  begin();
  publish(1, 100, {&node1_});
  auto& parts = shard_.catalog[key_of(1)];
  const Location good = parts[0][0];
  parts[0][0].length = 0;
  EXPECT_EQ(lookup({1}).error().code, Errc::corrupt);
  parts[0][0] = good;
  parts[0][0].node = NodeId{};
  EXPECT_EQ(lookup({1}).error().code, Errc::corrupt);
  step_until([&] { return shard_.pins.empty(); });
  parts[0][0] = good;
  EXPECT_EQ(lookup({1})->prefix_blocks(), 1U);
}

TEST_F(Session, AServerOfAnOlderEpochIsRefused) {
  shard_.epoch = Epoch{5};
  begin();
  shard_.epoch = Epoch{4};
  shard_.close(*shard_.peers.begin());
  step_until([&] { return shard_.hellos.size() >= 3U; });
  EXPECT_FALSE(core_->connected());
  shard_.epoch = Epoch{6};
  step_until([&] { return core_->connected(); });
}

TEST_F(Session, AWrongSecretIsDenied) {
  config_.secret = "another";
  core_ = std::make_unique<ClientCore>(*control_, *data_, config_, "here");
  const Result<> begun = await(control_loop_, core_->start());
  ASSERT_FALSE(begun);
  EXPECT_EQ(begun.error().code, Errc::denied);
}

TEST_F(Session, NobodyThereIsUnavailable) {
  config_.server = "nobody";
  config_.connect_timeout = milliseconds(300);
  core_ = std::make_unique<ClientCore>(*control_, *data_, config_, "here");
  const Result<> begun = await(control_loop_, core_->start());
  ASSERT_FALSE(begun);
  EXPECT_EQ(begun.error().code, Errc::unavailable);
}

TEST_F(Session, StoppingGivesAllPinsBack) {
  begin();
  publish(1, 100, {&node1_});
  Match match = lookup({1}).value();
  EXPECT_EQ(shard_.pins.size(), 1U);
  stop();
  EXPECT_TRUE(shard_.pins.empty());
  match.release();  // too late, and harmless
}

TEST_F(Session, StoppingEndsWhenTheServerNeverAnswers) {
  begin();
  publish(1, 100, {&node1_});
  Match match = lookup({1}).value();
  shard_.silent = true;
  const TimePoint before = clock_.now();
  stop();
  EXPECT_LT(clock_.now() - before, seconds(3));
}

TEST_F(Session, ClearsANamespaceAndReadsTheServersCounters) {
  begin();
  publish(1, 100, {&node1_});
  const Result<OpenedNamespace> cleared = await(control_loop_, core_->clear(space_));
  ASSERT_TRUE(cleared);
  EXPECT_EQ(cleared->era, space_.era + 1);
  const auto counters = await(control_loop_, core_->server_stats());
  ASSERT_TRUE(counters);
  EXPECT_EQ(counters->at("blocks"), 1U);
}

TEST_F(Session, ALookupThatNamesANewNodeLearnsItsAddressFirst) {
  shard_.nodes = {&node1_};
  begin();
  run_for(milliseconds(500));
  shard_.nodes = {&node1_, &node2_};
  const std::vector<std::byte> bytes = publish(1, 100, {&node2_});
  const Match match = lookup({1}).value();
  std::vector<std::byte> into(100);
  EXPECT_EQ(fetch(match, {whole(0, into)})->ok_count(), 1U);
  EXPECT_EQ(into, bytes);
}

TEST_F(Session, NodesThatARestartedServerDoesNotListYetStillServe) {
  begin();
  const std::vector<std::byte> bytes = publish(1, 100, {&node1_});
  const Match match = lookup({1}).value();
  shard_.nodes.clear();
  shard_.epoch = Epoch{2};
  shard_.close(*shard_.peers.begin());
  step_until([&] { return !core_->connected(); });
  step_until([&] { return core_->connected(); });
  std::vector<std::byte> into(100);
  EXPECT_EQ(fetch(match, {whole(0, into)})->ok_count(), 1U);
  shard_.nodes = {&node1_, &node2_};
  publish(2, 100, {&node2_});
  const Match other = lookup({2}).value();
  EXPECT_EQ(fetch(other, {whole(0, into)})->ok_count(), 1U);
}

/// Messages are lost, repeated and overtaken: all that the session does still comes out right.
class LossySession : public ClientTest {
 protected:
  static SimFaults faults() {
    SimFaults faults;
    faults.loss = 0.1;
    faults.duplicate = 0.1;
    faults.reorder = 0.2;
    return faults;
  }
  LossySession() : ClientTest(faults(), 7) {}
};

TEST_F(LossySession, PinsEqualLiveMatchesOnceAllIsQuiet) {
  shard_.ttl_ms = 10000;
  begin();
  std::vector<Match> matches;
  for (unsigned number = 0; number < 60; ++number) {
    publish(number, 100, {&node1_});
    Result<Match> match = lookup({number});
    if (match) matches.push_back(std::move(*match));
    if (number % 3 == 0 && !matches.empty()) matches.pop_back();
  }
  EXPECT_GT(matches.size(), 20U);
  run_for(seconds(20));
  std::set<LookupId> held;
  for (const Match& match : matches) held.insert(match.state()->claims[0].lookup);
  std::set<LookupId> pinned;
  for (const auto& [session, id] : shard_.pins) {
    if (session == SessionId{shard_.hellos.size()}) pinned.insert(id);
  }
  for (const LookupId id : held) EXPECT_TRUE(pinned.contains(id));
}

}  // namespace
}  // namespace membrain::client_test
