// Fetch: bytes land where they should, or nowhere; failures go to the next replica, then miss.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/client/fetch_fixture.h"

namespace membrain::client_test {
namespace {

using Mood = FakeNode::Mood;

using Fetch = FetchTest;

TEST_F(Fetch, BringsBlocksOfManySizesFromSeveralNodes) {
  begin();
  std::vector<unsigned> numbers;
  std::vector<std::vector<std::byte>> expected;
  std::uint64_t bytes = 0;
  for (unsigned number = 0; number < 200; ++number) {
    numbers.push_back(number);
    const std::size_t size = 1 + number * 977;
    expected.push_back(publish(number, size, {number % 2 == 0 ? &node1_ : &node2_}));
    bytes += size;
  }
  const Match match = lookup(numbers).value();
  std::vector<std::vector<std::byte>> into(200);
  std::vector<FetchItem> items;
  for (std::uint32_t block = 0; block < 200; ++block) {
    into[block].resize(expected[block].size());
    items.push_back(whole(block, into[block]));
  }
  std::size_t told = 0;
  TransferOptions options;
  options.on_item = [&](std::size_t, const ItemOutcome& outcome) { told += outcome.ok ? 1 : 0; };
  const Result<TransferReport> report = fetch(match, items, options);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 200U);
  EXPECT_EQ(told, 200U);
  EXPECT_EQ(report->bytes, bytes);
  EXPECT_EQ(report->lane_bytes.at("sim"), bytes);
  EXPECT_EQ(into, expected);
  EXPECT_EQ(node1_.fetches.size(), 1U) << "one message a node";
}

TEST_F(Fetch, UnderAHeldPinAsksTheServerNothingHoweverOften) {
  begin();
  std::vector<unsigned> numbers;
  for (unsigned number = 0; number < 20; ++number) {
    publish(number, 5000, {&node1_});
    numbers.push_back(number);
  }
  const Match match = lookup(numbers).value();
  const std::size_t requests = shard_.requests;
  std::vector<std::vector<std::byte>> into(20, std::vector<std::byte>(5000));
  std::vector<FetchItem> items;
  for (std::uint32_t block = 0; block < 20; ++block) items.push_back(whole(block, into[block]));
  for (int round = 0; round < 5; ++round) ASSERT_EQ(fetch(match, items)->ok_count(), 20U);
  EXPECT_EQ(shard_.requests, requests);
}

TEST_F(Fetch, ScattersABlockOverThePiecesOfAPagedLayout) {
  begin();
  const std::vector<std::byte> first = publish(1, 6000, {&node1_});
  const std::vector<std::byte> second = publish(2, 6000, {&node1_});
  const Match match = lookup({1, 2}).value();
  // Two blocks, layer by layer: pieces of 1000 bytes interleaved, with gaps nobody may touch.
  std::vector<std::byte> pool(20000, std::byte{0xee});
  std::vector<FetchItem> items(2);
  for (std::uint32_t block = 0; block < 2; ++block) {
    items[block].block = block;
    for (std::size_t layer = 0; layer < 6; ++layer) {
      items[block].into.push_back({pool.data() + layer * 3000 + block * 1500, 1000});
    }
  }
  const Result<TransferReport> report = fetch(match, items);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 2U);
  std::size_t untouched = 0;
  for (std::size_t layer = 0; layer < 6; ++layer) {
    const auto at = pool.begin() + static_cast<std::ptrdiff_t>(layer * 3000);
    const auto from = static_cast<std::ptrdiff_t>(layer * 1000);
    EXPECT_TRUE(std::equal(at, at + 1000, first.begin() + from));
    EXPECT_TRUE(std::equal(at + 1500, at + 2500, second.begin() + from));
    untouched += static_cast<std::size_t>(std::count(at + 1000, at + 1500, std::byte{0xee}));
  }
  EXPECT_EQ(untouched, 3000U);
}

TEST_F(Fetch, BringsRangesAndParts) {
  begin();
  publish(1, 1000, {&node1_}, 0);
  const std::vector<std::byte> bytes = publish(1, 1000, {&node1_}, 1);
  LookupOptions options;
  options.parts = 2;
  const Match match = lookup({1}, options).value();
  std::vector<std::byte> middle(100);
  std::vector<std::byte> tail(400);
  FetchItem one = whole(0, middle, 1);
  one.offset = 300;
  one.length = 100;
  FetchItem two = whole(0, tail, 1);
  two.offset = 600;
  ASSERT_EQ(fetch(match, {one, two})->ok_count(), 2U);
  EXPECT_TRUE(std::equal(middle.begin(), middle.end(), bytes.begin() + 300));
  EXPECT_TRUE(std::equal(tail.begin(), tail.end(), bytes.begin() + 600));
}

TEST_F(Fetch, RefusesABadRequestBeforeAnythingMoves) {
  begin();
  publish(1, 1000, {&node1_});
  const Match match = lookup({1}).value();
  std::vector<std::byte> into(1000);
  const auto why = [&](FetchItem item) { return fetch(match, {item}).error().code; };
  FetchItem item = whole(0, into);
  item.block = 1;
  EXPECT_EQ(why(item), Errc::invalid_argument);
  item = whole(0, into, 1);
  EXPECT_EQ(why(item), Errc::invalid_argument);
  item = whole(0, std::span(into).first(999));
  EXPECT_EQ(why(item), Errc::invalid_argument);
  item = whole(0, into);
  item.offset = 1000;
  EXPECT_EQ(why(item), Errc::invalid_argument);
  item.offset = 1;
  item.length = 1000;
  EXPECT_EQ(why(item), Errc::invalid_argument);
  item = whole(0, into);
  item.into[0].data = nullptr;
  EXPECT_EQ(why(item), Errc::invalid_argument);
  item.into = {{into.data(), SIZE_MAX}, {into.data(), 1001}};
  EXPECT_EQ(why(item), Errc::invalid_argument);
  EXPECT_TRUE(node1_.fetches.empty());
}

TEST_F(Fetch, ABlockThatWasNotFoundIsAMissAndDisturbsNobody) {
  begin();
  const std::vector<std::byte> bytes = publish(1, 1000, {&node1_});
  const Match match = lookup({1, 2}).value();
  std::vector<std::byte> into(1000);
  std::vector<std::byte> other(1000);
  const Result<TransferReport> report = fetch(match, {whole(0, into), whole(1, other)});
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->items[0].ok);
  EXPECT_FALSE(report->items[1].ok);
  EXPECT_EQ(report->items[1].why, Errc::not_found);
  EXPECT_EQ(into, bytes);
}

TEST_F(Fetch, PrefersTheReplicaOnItsOwnHost) {
  node2_.host = "here";
  begin();
  for (unsigned number = 0; number < 20; ++number) publish(number, 100, {&node1_, &node2_});
  for (unsigned number = 0; number < 20; ++number) {
    const Match match = lookup({number}).value();
    std::vector<std::byte> into(100);
    EXPECT_EQ(fetch(match, {whole(0, into)})->ok_count(), 1U);
  }
  EXPECT_TRUE(node1_.fetches.empty());
  EXPECT_EQ(node2_.fetches.size(), 20U);
}

/// Node 1, on this host, is always tried first; node 2 has the same block.
class FetchRetry : public FetchTest {
 protected:
  void prepare(Mood mood) {
    node1_.host = "here";
    node1_.mood = mood;
    begin();
    bytes_ = publish(1, 300'000, {&node1_, &node2_});
    match_ = lookup({1}).value();
    into_.assign(bytes_.size(), std::byte{0});
  }
  std::vector<std::byte> bytes_;
  std::vector<std::byte> into_;
  Match match_;
};

TEST_F(FetchRetry, AStaleReplicaSendsItToTheNextOne) {
  prepare(Mood::stale);
  ASSERT_EQ(fetch(match_, {whole(0, into_)})->ok_count(), 1U);
  EXPECT_EQ(into_, bytes_);
  EXPECT_EQ(node1_.fetches.size(), 1U);
  EXPECT_EQ(node2_.fetches.size(), 1U);
}

TEST_F(FetchRetry, ARefusalSendsItToTheNextOne) {
  prepare(Mood::refuse);
  ASSERT_EQ(fetch(match_, {whole(0, into_)})->ok_count(), 1U);
  EXPECT_EQ(into_, bytes_);
}

TEST_F(FetchRetry, ANodeThatStopsSendsItToTheNextOne) {
  prepare(Mood::stop);
  ASSERT_EQ(fetch(match_, {whole(0, into_)})->ok_count(), 1U);
  EXPECT_EQ(into_, bytes_);
  node2_.mood = Mood::stop;
  EXPECT_EQ(fetch(match_, {whole(0, into_)})->items[0].why, Errc::timed_out);
}

TEST_F(FetchRetry, ALostNodeSendsItToTheNextOneAndIsAvoidedFromThenOn) {
  prepare(Mood::vanish);
  ASSERT_EQ(fetch(match_, {whole(0, into_)})->ok_count(), 1U);
  EXPECT_EQ(into_, bytes_);
  EXPECT_EQ(node1_.fetches.size(), 1U);
  ASSERT_EQ(fetch(match_, {whole(0, into_)})->ok_count(), 1U);
  EXPECT_EQ(node1_.fetches.size(), 1U) << "not asked again";
  node1_.mood = Mood::serve;
  run_for(seconds(2));  // a heartbeat brings a new list of nodes
  ASSERT_EQ(fetch(match_, {whole(0, into_)})->ok_count(), 1U);
  EXPECT_EQ(node1_.fetches.size(), 2U) << "another chance";
}

TEST_F(FetchRetry, ANodeThatDiesUnderATransferSendsItToTheNextOne) {
  prepare(Mood::serve);
  launch(match_, {whole(0, into_)});
  step_until([&] { return std::count(into_.begin(), into_.end(), std::byte{0}) < 200'000; });
  ASSERT_FALSE(result_) << "half of it has landed";
  network_.kill("node1");
  step_until([&] { return result_.has_value(); });
  EXPECT_EQ((*result_)->ok_count(), 1U);
  EXPECT_EQ(into_, bytes_);
}

TEST_F(FetchRetry, WrongBytesAreReportedAsSuspectAndFetchedFromTheNextOne) {
  prepare(Mood::corrupt);
  ASSERT_EQ(fetch(match_, {whole(0, into_)})->ok_count(), 1U);
  EXPECT_EQ(into_, bytes_);
  step_until([&] { return !node1_.suspects.empty(); });
  const Location& at = match_.state()->replicas_of(0, 0)[0].at;
  EXPECT_EQ(node1_.suspects[0].slot, at.slot);
  EXPECT_EQ(node1_.suspects[0].generation, at.generation);
}

TEST_F(FetchRetry, WrongBytesEverywhereAreAMiss) {
  prepare(Mood::corrupt);
  node2_.mood = Mood::corrupt;
  const Result<TransferReport> report = fetch(match_, {whole(0, into_)});
  ASSERT_TRUE(report);
  EXPECT_EQ(report->items[0].why, Errc::corrupt);
  EXPECT_EQ(report->bytes, 0U);
  EXPECT_EQ(node1_.fetches.size() + node2_.fetches.size(), 2U) << "each replica once";
}

TEST_F(FetchRetry, ANodeThatSendsGarbageIsLeftForTheNextOne) {
  prepare(Mood::hang);
  launch(match_, {whole(0, into_)});
  step_until([&] { return !node1_.fetches.empty(); });
  const std::vector<std::byte> garbage = content(300, 5);
  ASSERT_TRUE(node1_.fabric().send(client_at(node1_), garbage));
  step_until([&] { return result_.has_value(); });
  EXPECT_EQ((*result_)->ok_count(), 1U);
  EXPECT_EQ(into_, bytes_);
}

TEST_F(FetchRetry, WithoutVerifyingItTakesWhatComes) {
  config_.verify_checksums = false;
  prepare(Mood::corrupt);
  ASSERT_EQ(fetch(match_, {whole(0, into_)})->ok_count(), 1U);
  EXPECT_NE(into_, bytes_);
  EXPECT_EQ(node2_.fetches.size(), 0U);
}

TEST_F(FetchRetry, StaleEverywhereIsAStaleMiss) {
  prepare(Mood::stale);
  node2_.mood = Mood::stale;
  EXPECT_EQ(fetch(match_, {whole(0, into_)})->items[0].why, Errc::stale);
}

TEST_F(FetchRetry, NobodyReachableIsALostPeer) {
  prepare(Mood::vanish);
  node2_.mood = Mood::vanish;
  EXPECT_EQ(fetch(match_, {whole(0, into_)})->items[0].why, Errc::peer_lost);
  EXPECT_EQ(fetch(match_, {whole(0, into_)})->items[0].why, Errc::peer_lost);
}

TEST_F(Fetch, ReceivesNoMorePayloadsAtOnceThanItsWindow) {
  config_.fetch_window_blocks = 2;
  node1_.items_per_data = 1;
  begin();
  std::vector<unsigned> numbers;
  std::vector<std::vector<std::byte>> expected;
  for (unsigned number = 0; number < 20; ++number) {
    numbers.push_back(number);
    expected.push_back(publish(number, 200'000, {&node1_}));
  }
  const Match match = lookup(numbers).value();
  std::vector<std::vector<std::byte>> into(20, std::vector<std::byte>(200'000));
  std::vector<FetchItem> items;
  for (std::uint32_t block = 0; block < 20; ++block) items.push_back(whole(block, into[block]));
  launch(match, items);
  std::size_t most = 0;
  while (!result_) {
    network_.step();
    std::size_t begun = 0;
    for (std::size_t i = 0; i < 20; ++i) {
      const bool any = into[i][0] == expected[i][0];
      begun += any && into[i] != expected[i] ? 1U : 0U;
    }
    most = std::max(most, begun);
  }
  EXPECT_EQ(most, 2U);
  EXPECT_EQ((*result_)->ok_count(), 20U);
  EXPECT_EQ(into, expected);
}

TEST_F(Fetch, MoreItemsThanOneMessageHoldsGoInSeveral) {
  begin();
  const std::vector<std::byte> bytes = publish(1, 5000, {&node1_});
  const Match match = lookup({1}).value();
  std::vector<std::byte> into(2500);
  std::vector<FetchItem> items;
  for (std::uint32_t i = 0; i < 2500; ++i) {
    FetchItem item = whole(0, std::span(into).subspan(i, 1));
    item.offset = 2 * i;
    item.length = 1;
    items.push_back(item);
  }
  EXPECT_EQ(fetch(match, items)->ok_count(), 2500U);
  EXPECT_EQ(node1_.fetches.size(), 3U);
  for (std::size_t i = 0; i < 2500; ++i) ASSERT_EQ(into[i], bytes[2 * i]);
}

TEST_F(Fetch, GoesOnWithoutTheServer) {
  begin();
  const std::vector<std::byte> bytes = publish(1, 1000, {&node1_});
  const Match match = lookup({1}).value();
  shard_.deny = true;
  shard_.close(*shard_.peers.begin());
  step_until([&] { return !core_->connected(); });
  std::vector<std::byte> into(1000);
  EXPECT_EQ(fetch(match, {whole(0, into)})->ok_count(), 1U);
  EXPECT_EQ(into, bytes);
}

TEST_F(Fetch, StoppingWaitsForIt) {
  begin();
  const std::vector<std::byte> bytes = publish(1, 4'000'000, {&node1_});
  const Match match = lookup({1}).value();
  std::vector<std::byte> into(4'000'000);
  launch(match, {whole(0, into)});
  step_until([&] { return into[0] != std::byte{0}; });
  stop();
  ASSERT_TRUE(result_.has_value());
  EXPECT_EQ((*result_)->ok_count(), 1U);
  EXPECT_EQ(into, bytes);
  EXPECT_EQ(fetch(match, {whole(0, into)}).error().code, Errc::unavailable);
}

TEST_F(Fetch, EveryBitFlippedOnTheWayIsFound) {
  begin();
  SimFaults faults = network_.faults();
  faults.bit_flip = 0.5;
  network_.set_faults(faults);
  std::size_t ok = 0;
  for (unsigned number = 0; number < 40; ++number) {
    const std::vector<std::byte> bytes = publish(number, 3000, {&node1_, &node2_});
    const Match match = lookup({number}).value();
    std::vector<std::byte> into(3000);
    const Result<TransferReport> report = fetch(match, {whole(0, into)});
    ASSERT_TRUE(report);
    if (report->items[0].ok) {
      ++ok;
      EXPECT_EQ(into, bytes);
    } else {
      EXPECT_EQ(report->items[0].why, Errc::corrupt);
    }
  }
  EXPECT_GT(ok, 10U);
  EXPECT_LT(ok, 40U);
}

}  // namespace
}  // namespace membrain::client_test
