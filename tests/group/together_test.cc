// Blocks to all members at once, by a library that may fail in every way: what it does not do, the
// tree does.
#include "cache/group/together.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <set>

#include "tests/group/group_house.h"

namespace membrain::group_test {
namespace {

/// What the members' ends of the library have in common, and what a test makes of it.
struct Wire {
  struct Meeting {
    std::map<std::uint32_t, const CollectiveJob*> members;
  };
  std::uint32_t size = 0;
  std::map<wire::CollectiveId, Meeting> meetings;  // this replication's
  std::uint8_t ids = 0;
  std::size_t runs = 0;

  std::optional<std::uint32_t> fails;    ///< this member's run fails at once
  std::optional<std::uint32_t> hangs;    ///< this one ends only when it is stopped
  std::optional<std::uint32_t> forgets;  ///< this one has no communicator any more
  std::optional<std::uint32_t> spoils;   ///< what comes to this one is not right, every third block
  std::optional<std::uint32_t> is_stuck;  ///< this one does not even end then, for a while
  bool works = true;
  bool is_slow = false;  ///< in making an id
};

class FakeCollective final : public Collective {
 public:
  FakeCollective(Loop& loop, Wire& wire, std::uint32_t rank)
      : loop_(loop), wire_(wire), rank_(rank) {}

  std::string_view name() const noexcept override { return "fake"; }
  std::uint32_t most_blocks(std::uint64_t, std::size_t) const noexcept override { return 4; }
  const wire::CollectiveId& current() const noexcept override {
    static constexpr wire::CollectiveId kNone{};
    return wire_.forgets == rank_ ? kNone : current_;
  }
  Task<wire::CollectiveId> make_id(TimePoint deadline) override {
    const Duration needs = wire_.is_slow ? seconds(60) : milliseconds(2);
    co_await loop_.sleep_until(std::min(deadline, loop_.now() + needs));
    if (wire_.is_slow) co_return wire::CollectiveId{};
    wire::CollectiveId id{};
    if (wire_.works) id[0] = std::byte{++wire_.ids};
    co_return id;
  }
  Task<std::vector<bool>> run(CollectiveJob job) override {
    const CollectiveJob mine = job;
    stopped_ = false;
    ++wire_.runs;
    current_ = {};
    std::vector<bool> right(mine.places->size());
    Wire::Meeting& meeting = wire_.meetings[mine.id];
    const bool fails = wire_.fails == rank_;
    const bool hangs = wire_.hangs == rank_;
    if (!fails && !hangs) meeting.members[rank_] = &mine;  // else the others wait in vain
    while (!stopped_ && loop_.now() < mine.deadline && !fails &&
           meeting.members.size() < wire_.size) {
      co_await loop_.sleep_until(loop_.now() + milliseconds(1));
    }
    if (wire_.is_stuck == rank_) co_await loop_.sleep_until(mine.deadline + seconds(1));
    const bool whole = !fails && !hangs && meeting.members.size() == wire_.size;
    if (whole && !stopped_) {
      copy(*meeting.members.at(mine.root)->places, *mine.places, right);
      current_ = mine.id;
    }
    // The others' jobs are looked at until all have copied.
    for (int i = 0; i < 3; ++i) co_await loop_.sleep_until(loop_.now() + milliseconds(1));
    co_return right;
  }
  void stop() noexcept override { stopped_ = true; }
  Task<> close() override { co_return; }

 private:
  void copy(const std::vector<Place>& from, const std::vector<Place>& to,
            std::vector<bool>& right) const {
    for (std::size_t i = 0; i < to.size(); ++i) {
      if (wire_.spoils == rank_ && i % 3 == 0) continue;
      const std::byte* source = nullptr;
      from[i].for_each_piece([&](const std::byte* data, std::size_t) { source = data; });
      to[i].for_each_piece([&](const std::byte* data, std::size_t size) {
        if (data != source) std::memcpy(const_cast<std::byte*>(data), source, size);
      });
      right[i] = true;
    }
  }

  Loop& loop_;
  Wire& wire_;
  const std::uint32_t rank_;
  wire::CollectiveId current_{};
  bool stopped_ = false;
};

class TogetherOnGpus : public ReplicationOnGpus {
 protected:
  void make_all(std::uint32_t size) {
    make(size);
    caches_.reserve(size);
    wire_.size = size;
    for (std::uint32_t rank = 0; rank < size; ++rank) {
      onto_gpu(rank);
      members_[rank]->collective =
          std::make_unique<FakeCollective>(members_[rank]->loop, wire_, rank);
    }
  }
  void all_replicate(std::uint32_t root) {
    wire_.meetings.clear();
    began_ = clock_.now();
    replicate(root);
  }
  /// Bytes that came by the library at this member.
  [[nodiscard]] std::uint64_t together(std::uint32_t rank) const {
    const auto& lanes = (*members_[rank]->end)->lane_bytes;
    const auto found = lanes.find("fake");
    return found == lanes.end() ? 0 : found->second;
  }
  [[nodiscard]] Duration took() const { return clock_.now() - began_; }
  static constexpr std::uint64_t kAll = kBlocks * kBlockBytes;

  Wire wire_;
  TimePoint began_;
};

TEST_F(TogetherOnGpus, AllGetAllAtOnceFromAnyRoot) {
  make_all(4);
  for (std::uint32_t root = 0; root < 4; ++root) {
    all_replicate(root);
    expect_all();
    for (std::uint32_t rank = 0; rank < 4; ++rank) {
      EXPECT_EQ(together(rank), kAll) << rank;
      EXPECT_EQ((*members_[rank]->end)->bytes, kAll) << "nothing came down the tree";
    }
  }
  EXPECT_EQ(wire_.ids, 1) << "they keep their communicator";
}

TEST_F(TogetherOnGpus, ANewCommunicatorIsMadeWhenOneHasLostIts) {
  make_all(3);
  all_replicate(0);
  wire_.forgets = 2;
  all_replicate(1);
  expect_all();
  EXPECT_EQ(wire_.ids, 2);
  wire_.forgets = 1;  // the root itself
  all_replicate(1);
  expect_all();
  EXPECT_EQ(wire_.ids, 3);
  EXPECT_EQ(together(2), kAll);
}

TEST_F(TogetherOnGpus, WhereOneCannotAllTakeTheTree) {
  make_all(3);
  members_[2]->collective.reset();
  all_replicate(0);
  expect_all();
  EXPECT_EQ(together(0), 0U);
  members_[0]->collective.reset();
  all_replicate(0);
  expect_all();
  EXPECT_EQ(wire_.runs, 0U);
  EXPECT_LT(took(), seconds(1)) << "and at once";
}

TEST_F(TogetherOnGpus, ALibraryThatDoesNotStartCostsNothingButTheQuestion) {
  make_all(3);
  wire_.works = false;
  all_replicate(0);
  expect_all();
  EXPECT_EQ(wire_.runs, 0U);
  EXPECT_LT(took(), seconds(1));
}

TEST_F(TogetherOnGpus, ALibraryThatStartsForEverCostsHalfOfTheTime) {
  make_all(3);
  wire_.is_slow = true;
  all_replicate(0);
  expect_all();
  EXPECT_LT(took(), seconds(3));
}

TEST_F(TogetherOnGpus, AfterAFailureTheTreeBringsThem) {
  make_all(4);
  for (const std::uint32_t rank : {0U, 2U}) {
    wire_.fails = rank;
    all_replicate(0);
    expect_all();
    EXPECT_EQ(together(0), 0U);
    EXPECT_LT(took(), seconds(2)) << "the others are told, and need not wait for half-time";
  }
  wire_.fails.reset();
  all_replicate(0);
  expect_all();
  EXPECT_EQ(together(3), kAll) << "the next time it works again";
}

TEST_F(TogetherOnGpus, OneThatHangsIsGivenUpAtHalfTime) {
  make_all(4);
  for (const std::uint32_t rank : {0U, 3U}) {
    wire_.hangs = rank;
    all_replicate(0);
    expect_all();
    EXPECT_LT(took(), seconds(4));
  }
}

TEST_F(TogetherOnGpus, WhatCameWrongToOneComesDownTheTree) {
  make_all(3);
  wire_.spoils = 1;
  all_replicate(0);
  expect_all();
  EXPECT_EQ(together(2), kAll);
  EXPECT_LT(together(1), kAll);
}

/// It is stuck in the library, and touches its pages who knows when: it gets nothing else.
TEST_F(TogetherOnGpus, OneThatIsStuckGetsNothingAndHoldsUpNobody) {
  make_all(3);
  wire_.hangs = wire_.is_stuck = 2;
  all_replicate(0);
  EXPECT_EQ(ok(1), kBlocks);
  EXPECT_EQ(ok(0), 0U) << "it is not everywhere";
  ASSERT_FALSE(*members_[2]->end);
  EXPECT_LE(took(), seconds(5) + Replicating::kDrain + milliseconds(200));
}

TEST_F(TogetherOnGpus, OneThatComesLateStopsNobody) {
  make_all(3);
  sequence_ = 1;
  sent_ = content(1);
  std::ranges::copy(sent_, members_[0]->blocks);
  call(0, 0), call(1, 0);
  run_for(milliseconds(3000));  // past half-time
  call(2, 0);
  settle();
  expect_all();
  EXPECT_EQ(wire_.runs, 0U);
}

TEST_F(TogetherOnGpus, WhenTheRootGoesEveryoneElseEndsInTime) {
  make_all(3);
  wire_.hangs = 0;
  sequence_ = 1;
  sent_ = content(1);
  std::ranges::copy(sent_, members_[0]->blocks);
  began_ = clock_.now();
  for (std::uint32_t rank = 0; rank < 3; ++rank) call(rank, 0);
  run_for(milliseconds(100));
  network_.kill("member0");
  settle();
  EXPECT_LE(took(), seconds(5) + Replicating::kDrain + milliseconds(200));
  expect_right(1), expect_right(2);
}

TEST_F(TogetherOnGpus, MembersThatMeanOtherBlocksGetNone) {
  make_all(3);
  sequence_ = 1;
  sent_ = content(1);
  call(0, 0), call(1, 0, seconds(5), 99), call(2, 0);
  settle();
  ASSERT_FALSE(*members_[1]->end);
  EXPECT_EQ(members_[1]->end->error().code, Errc::invalid_argument);
  EXPECT_EQ(wire_.runs, 0U);
}

TEST_F(TogetherOnGpus, UnderFaultsEndsInTimeAndNeverGivesAWrongByte) {
  make_all(4);
  std::size_t whole = 0;
  std::size_t at_once = 0;
  for (int round = 0; round < 80; ++round) {
    SimRandom& random = network_.random();
    const auto one_in = [&](std::uint64_t n) -> std::optional<std::uint32_t> {
      if (random.below(n) != 0) return {};
      return static_cast<std::uint32_t>(random.below(4));
    };
    wire_.fails = one_in(5);
    wire_.hangs = one_in(6);
    wire_.forgets = one_in(5);
    wire_.spoils = one_in(5);
    wire_.is_stuck = one_in(20);
    SimFaults faults;
    faults.loss = faults.duplicate = faults.reorder = round % 3 == 0 ? 0.03 : 0;
    faults.reset = round % 3 == 1 ? 0.02 : 0;
    network_.set_faults(faults);
    all_replicate(static_cast<std::uint32_t>(random.below(4)));
    EXPECT_LE(took(), seconds(5) + Replicating::kDrain + milliseconds(200));
    for (std::uint32_t rank = 0; rank < 4; ++rank) {
      expect_right(rank);
      whole += ok(rank) == kBlocks ? 1 : 0;
      at_once += *members_[rank]->end && together(rank) == kAll ? 1 : 0;
    }
  }
  EXPECT_GT(whole, 160U);
  EXPECT_GT(at_once, 40U);
}

}  // namespace
}  // namespace membrain::group_test
