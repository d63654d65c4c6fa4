// Blocks that engines share from their GPUs: fetched by peers, taken back at any time, never wrong.
#include "cache/share/sharer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "tests/share/share_house.h"

namespace membrain::share_test {
namespace {

using Places = std::vector<std::vector<std::byte>>;

class Sharing : public ShareHouse {
 protected:
  /// Begins a fetch of one block.
  void launch(Engine& engine, const Match& match) {
    places_.assign(1, {});
    end_.reset();
    engine.data_loop.spawn(put_into(
        engine.core.fetch(match.state(), into(places_), {}, std::make_shared<CancelToken>()),
        end_));
  }
  void settle() {
    step_until([&] { return end_.has_value(); });
  }
  /// What became of the block that `launch` asked for.
  [[nodiscard]] bool came() const { return *end_ && (*end_)->items.at(0).ok; }

  Places places_;
  std::optional<Result<TransferReport>> end_;
};

TEST_F(Sharing, PeersFetchBlocksFromWhereTheyLie) {
  for (unsigned number = 0; number < 5; ++number) ASSERT_TRUE(share(number, number));
  const Match match = found(*reader_, {0, 1, 2, 3, 4});
  Places places(5);
  const auto report = fetch(*reader_, match, places);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 5U);
  for (unsigned number = 0; number < 5; ++number) EXPECT_EQ(places[number], content(number));
  step_until([&] { return sharer_->counters().bytes_out.load() == 5 * kBlockBytes; });
}

TEST_F(Sharing, PartsOfABlockAreFetchedToo) {
  ASSERT_TRUE(share(3, 9));
  const Match match = found(*reader_, {9});
  std::vector<std::byte> place(kPieceBytes);
  FetchItem item;
  item.offset = kPieceBytes / 2;
  item.length = kPieceBytes;
  item.into = {{place.data(), place.size()}};
  const auto report =
      await(reader_->data_loop, reader_->core.fetch(match.state(), FetchList({item}), {}, nullptr));
  ASSERT_TRUE(report);
  ASSERT_EQ(report->ok_count(), 1U);
  const std::vector<std::byte> whole = content(9);
  EXPECT_TRUE(std::equal(place.begin(), place.end(), whole.begin() + kPieceBytes / 2));
}

TEST_F(Sharing, WhatWasTakenBackIsAMissWhoeverStillPinsIt) {
  second_ = engine("second", false);
  ASSERT_TRUE(share(3, 9));
  const Match match = found(*second_, {9});
  unshare(3);
  write(3, 10);
  Places places(1);
  const auto report = fetch(*second_, match, places);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 0U);
  EXPECT_EQ(report->items[0].why, Errc::stale);
  EXPECT_FALSE(lookup(*second_, {9})->has(0)) << "the server knows that it is gone";
}

TEST_F(Sharing, TakingBackBeforeTheServerHasAnsweredLeavesNothingBehind) {
  network_.partition("owner", "server", true);
  ASSERT_TRUE(share(3, 9));
  unshare(3);
  network_.heal_partitions();
  run_for(seconds(4));
  EXPECT_EQ(server_->shard().catalog().counts().replicas, 0U);
  EXPECT_EQ(sharer_->table().place_count(), 0U);
}

TEST_F(Sharing, TakingBackWaitsForTheGpu) {
  ASSERT_TRUE(share(3, 9));
  const Match match = found(*reader_, {9});
  fake::pause(true);
  launch(*reader_, match);
  step_until([&] { return sharer_->counters().fetches.load() != 0; });
  for (int i = 0; i < 200; ++i) step();
  std::optional<Result<>> back;
  owner_data_loop_.spawn(put_into(finished(sharer_->unshare(layout().geometry(), {3})), back));
  for (int i = 0; i < 200; ++i) step();
  EXPECT_FALSE(back) << "the GPU may be reading the block";
  fake::pause(false);
  step_until([&] { return back.has_value(); });
  write(3, 10);
  settle();
  EXPECT_TRUE(came()) << "it had been copied";
  EXPECT_EQ(places_[0], content(9));
}

TEST_F(Sharing, TakingBackDoesNotWaitForAPeerThatHangs) {
  ASSERT_TRUE(share(3, 9));
  const Match match = found(*reader_, {9});
  launch(*reader_, match);
  step_until([&] { return sharer_->counters().fetches.load() != 0; });
  network_.pause("reader");
  const TimePoint asked = clock_.now();
  unshare(3);
  EXPECT_LT(clock_.now() - asked, milliseconds(20));
  network_.resume("reader");
  settle();
}

TEST_F(Sharing, PeersThatHangKeepNobodyElseFromTheSlots) {
  second_ = engine("second", true);
  for (unsigned number = 0; number < 6; ++number) ASSERT_TRUE(share(number, number));
  const Match match = found(*reader_, {0, 1, 2, 3, 4, 5});
  const Match other = found(*second_, {5});
  Places places(6);
  std::optional<Result<TransferReport>> end;
  reader_->data_loop.spawn(
      put_into(reader_->core.fetch(match.state(), into(places), {}, nullptr), end));
  step_until([&] { return sharer_->counters().fetches.load() != 0; });
  network_.pause("reader");
  run_for(ShareService::kHung + milliseconds(100));
  Places wanted(1);
  const auto report = fetch(*second_, other, wanted);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 1U);
  network_.resume("reader");
  step_until([&] { return end.has_value(); });
}

TEST_F(Sharing, ARestartedServerLearnsWhatIsShared) {
  ASSERT_TRUE(share(3, 9));
  found(*reader_, {9});
  stop_server();
  unshare(3);
  ASSERT_TRUE(share(4, 10));
  start_server();
  const Match match = found(*reader_, {10});
  Places places(1);
  EXPECT_EQ(fetch(*reader_, match, places)->ok_count(), 1U);
  EXPECT_EQ(places[0], content(10));
  EXPECT_EQ(server_->shard().catalog().counts().replicas, 1U);
}

TEST_F(Sharing, AClearedNamespaceIsSharedNoMore) {
  ASSERT_TRUE(share(3, 9));
  found(*reader_, {9});
  ASSERT_TRUE(await(reader_->control_loop, reader_->core.clear(space_)));
  step_until([&] { return sharer_->table().place_count() == 0; });
  EXPECT_EQ(sharer_->counters().freed.load(), 1U);
}

TEST_F(Sharing, ABlockThatIsChangedWhileItIsSharedIsFoundOut) {
  ASSERT_TRUE(share(3, 9));
  const Match match = found(*reader_, {9});
  write(3, 10);
  Places places(1);
  const auto report = fetch(*reader_, match, places);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->items[0].why, Errc::corrupt);
  step_until([&] { return sharer_->table().place_count() == 0; });
  EXPECT_EQ(sharer_->counters().corrupt_slots.load(), 1U);
  run_for(milliseconds(50));
  EXPECT_FALSE(lookup(*reader_, {9})->has(0));
}

TEST_F(Sharing, ASuspicionWithoutReasonChangesNothing) {
  ASSERT_TRUE(share(3, 9));
  const Match match = found(*reader_, {9});
  SimFaults faults;
  faults.bit_flip = 1;
  network_.set_faults(faults);
  Places places(1);
  EXPECT_EQ(fetch(*reader_, match, places)->ok_count(), 0U);
  network_.set_faults({});
  run_for(milliseconds(100));
  EXPECT_EQ(sharer_->table().shared_count(), 1U);
  EXPECT_EQ(fetch(*reader_, match, places)->ok_count(), 1U);
}

TEST_F(Sharing, AGpuThatFailsServesNothingAndHoldsNothing) {
  ASSERT_TRUE(share(3, 9));
  const Match match = found(*reader_, {9});
  fake::break_down();
  launch(*reader_, match);
  settle();
  EXPECT_FALSE(came());
  unshare(3);
}

TEST_F(Sharing, OnlyAProvenSessionIsServed) {
  ASSERT_TRUE(share(3, 9));
  const Match match = found(*reader_, {9});
  ASSERT_TRUE(match.pinned());
  wire::SessionProof forged;
  forged.session = SessionId{1};
  forged.epoch = Epoch{1};
  match.state()->claims.at(0).granted = forged;
  Places places(1);
  const auto report = fetch(*reader_, match, places);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->items[0].why, Errc::denied);
}

TEST_F(Sharing, WhatCannotBeSharedIsRefused) {
  ASSERT_TRUE(share(3, 9));
  write(3, 9);
  const auto again = await(owner_->data_loop, sharing(3, 9));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->items[0].why, Errc::invalid_argument);
  const auto nowhere =
      await(reader_->data_loop, reader_->core.share(space_, {}, {}, nullptr, nullptr));
  EXPECT_EQ(nowhere.error().code, Errc::invalid_argument) << "the host's memory";
}

/// An engine that changes its blocks all the time, and readers that compare no checksums: what they
/// get is what the owner's care lets them have.
class SharingAtRandom : public ShareHouse, public testing::WithParamInterface<int> {
 protected:
  SharingAtRandom() : ShareHouse(static_cast<std::uint64_t>(GetParam()), false) {}

  std::uint64_t below(std::uint64_t end) { return network_.random().below(end); }

  /// Takes a block back, computes another one in its place, and shares that.
  Task<> renew(std::uint32_t id) {
    changing_[id] = true;
    Task<> taking = sharer_->unshare(layout().geometry(), {id});
    co_await taking;
    const unsigned number = next_++;
    write(id, number);
    Task<Result<TransferReport>> sharing_it = sharing(id, number);
    const Result<TransferReport> report = co_await sharing_it;
    EXPECT_TRUE(report);
    changing_[id] = false;
  }
  /// Looks up some of the latest blocks and fetches what is there.
  Task<> read(Engine& engine, bool& busy) {
    busy = true;
    std::vector<unsigned> numbers;
    std::vector<BlockHash> hashes;
    for (unsigned i = 0; i < 4; ++i) {
      numbers.push_back(next_ - 1 - static_cast<unsigned>(below(std::min(next_, 2 * kIds))));
      hashes.push_back(hash_of(numbers.back()));
    }
    LookupOptions options;
    options.rule = LookupOptions::Rule::all;
    Task<Result<Match>> looking = engine.core.lookup(space_, std::move(hashes), options);
    const Result<Match> match = co_await looking;
    if (match) {
      Places places(numbers.size());
      Task<Result<TransferReport>> fetching =
          engine.core.fetch(match->state(), into(places), {}, std::make_shared<CancelToken>());
      const Result<TransferReport> report = co_await fetching;
      for (std::size_t i = 0; report && i < places.size(); ++i) {
        if (!report->items[i].ok) continue;
        ++hits_;
        EXPECT_TRUE(places[i] == content(numbers[i])) << "a wrong byte of block " << numbers[i];
      }
    }
    busy = false;
  }
  void do_something() {
    const std::uint64_t what = below(10);
    if (what == 0) fake::pause(std::exchange(paused_, !paused_) == false);
    if (what >= 1 && what <= 4) {
      const auto id = static_cast<std::uint32_t>(below(kIds));
      if (!changing_[id]) owner_->data_loop.spawn(renew(id));
    }
    if (what >= 5 && what <= 7 && !reading_) {
      reader_->data_loop.spawn(read(*reader_, reading_));
    }
    if (what >= 8 && !second_reading_) {
      second_->data_loop.spawn(read(*second_, second_reading_));
    }
    for (std::uint64_t steps = below(30); steps > 0; --steps) step();
  }

  unsigned next_ = 1;
  std::array<bool, kIds> changing_{};
  bool paused_ = false;
  bool reading_ = false, second_reading_ = false;
  std::size_t hits_ = 0;
};

TEST_P(SharingAtRandom, NeverGivesAWrongByteAndLeavesNothingBehind) {
  if (GetParam() % 2 == 0) allow(DevicePayloads::any);  // sent from slots on the GPU
  second_ = engine("second", false);
  SimFaults faults;
  faults.loss = faults.duplicate = 0.02;
  faults.reorder = 0.05;
  faults.reset = 0.001;
  network_.set_faults(faults);
  for (int round = 0; round < 600; ++round) do_something();
  fake::pause(false);
  network_.set_faults({});
  const auto all_quiet = [&] {
    return !reading_ && !second_reading_ && std::ranges::count(changing_, true) == 0;
  };
  step_until(all_quiet);
  run_for(seconds(12));
  EXPECT_GT(hits_, 20U);
  EXPECT_EQ(server_->shard().check_invariants(), "");
  EXPECT_EQ(server_->shard().catalog().counts().replicas, sharer_->table().shared_count());
  EXPECT_EQ(sharer_->table().place_count(), sharer_->table().shared_count());
}

INSTANTIATE_TEST_SUITE_P(Seeds, SharingAtRandom, testing::Range(1, 41));

}  // namespace
}  // namespace membrain::share_test
