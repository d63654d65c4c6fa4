// Blocks read through a node's window: the right bytes, or the checked way.
#include "cache/client/window_read.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "cache/node/arena.h"
#include "protocol/arena_header.h"
#include "tests/client/fetch_fixture.h"

namespace membrain::client_test {
namespace {

using Mood = FakeNode::Mood;

constexpr std::uint64_t kCapacity = 4 << 20;

/// Others' windows, counted while they are open.
class CountedWindows final : public Windows {
 public:
  CountedWindows(std::unique_ptr<Windows> real, std::size_t& open)
      : real_(std::move(real)), open_(open) {}
  Result<std::vector<std::byte>> open(std::span<std::byte> memory) override {
    return real_->open(memory);
  }
  Result<std::unique_ptr<RemoteWindow>> enter(std::span<const std::byte> window) override {
    Result<std::unique_ptr<RemoteWindow>> entered = real_->enter(window);
    if (entered) entered = std::make_unique<Counted>(std::move(*entered), open_);
    return entered;
  }

 private:
  class Counted final : public RemoteWindow {
   public:
    Counted(std::unique_ptr<RemoteWindow> real, std::size_t& open)
        : real_(std::move(real)), open_(open) {
      ++open_;
    }
    std::uint64_t size_bytes() const noexcept override { return real_->size_bytes(); }
    void read(std::uint64_t offset, std::span<const Segment> into, Completion& done) override {
      real_->read(offset, into, done);
    }
    bool usable() const noexcept override { return real_->usable(); }
    Task<> close() override {
      --open_;
      return real_->close();
    }

   private:
    std::unique_ptr<RemoteWindow> real_;
    std::size_t& open_;
  };

  std::unique_ptr<Windows> real_;
  std::size_t& open_;
};

/// node1's memory is open to the client; checksums are not compared: the seals alone decide.
class WindowReads : public FetchTest {
 protected:
  WindowReads() {
    config_.verify_checksums = false;
    owner_ = network_.make_windows(node1_.loop(), "node1");
    windows_ = network_.make_windows(data_loop_, "client");
    const std::span<const std::byte> memory = arena_->mapping();
    window_ = owner_->open({const_cast<std::byte*>(memory.data()), memory.size()}).value();
    node1_.window = [this] {
      wire::WindowOpened told;
      told.incarnation = node1_.entry().incarnation;
      told.capacity_bytes = arena_->capacity_bytes();
      told.seals_offset = offset_of(arena_->seals().data());
      told.slots_offset = offset_of(arena_->slots().data());
      told.window = window_;
      return told;
    };
  }
  [[nodiscard]] std::uint64_t offset_of(const void* place) const {
    return static_cast<std::uint64_t>(static_cast<const std::byte*>(place) -
                                      arena_->mapping().data());
  }
  /// A block on node1, in its arena too.
  std::vector<std::byte> keep(unsigned number, std::size_t size) {
    const std::vector<std::byte> bytes = publish(number, size, {&node1_});
    write(number, at(number).generation, bytes);
    return bytes;
  }
  [[nodiscard]] Location& at(unsigned number) { return shard_.catalog[key_of(number)][0][0]; }
  /// Fills the block's slot and seals it, in any use of it.
  void write(unsigned number, Generation generation, const std::vector<std::byte>& bytes) {
    const Location& where = at(number);
    std::memcpy(arena_->memory(where.slot, bytes.size()).data(), bytes.data(), bytes.size());
    SealContent seal;
    seal.entry.meta.space = NamespaceId{space_.id};
    seal.entry.meta.key = key_of(number);
    seal.entry.slot = where.slot;
    seal.entry.generation = generation;
    seal.entry.length = static_cast<std::uint32_t>(bytes.size());
    change_(seal);
    write_seal(arena_->seal(where.slot), seal);
  }
  /// Connects with a first fetch, has the node asked by a second: the window is open afterwards.
  void open_window() {
    publish(99, 10, {&node1_});
    std::vector<std::byte> into(10);
    const Match match = lookup({99}).value();
    ASSERT_TRUE(fetch(match, {whole(0, into)}));
    ASSERT_TRUE(fetch(match, {whole(0, into)}));
    run_for(milliseconds(50));
    node1_.fetches.clear();
  }
  /// Fetches one block; true if it came through the window, and right.
  bool reads(unsigned number, const std::vector<std::byte>& expected) {
    std::vector<std::byte> into(expected.size());
    const Match match = lookup({number}).value();
    const Result<TransferReport> report = fetch(match, {whole(0, into)});
    EXPECT_TRUE(report) << report.error().context;
    if (!report) return false;
    if (report->items[0].ok) {
      EXPECT_EQ(into, expected);
    }
    return report->items[0].ok && report->lane_bytes.contains(kWindowLane);
  }

  std::unique_ptr<Arena> arena_ = Arena::anonymous(kCapacity, NodeId{1}).value();
  std::unique_ptr<Windows> owner_;
  std::vector<std::byte> window_;
  std::function<void(SealContent&)> change_ = [](SealContent&) {};
};

TEST_F(WindowReads, BringBlocksWithoutAWordToTheNode) {
  begin();
  open_window();
  std::vector<unsigned> numbers;
  std::vector<std::vector<std::byte>> expected;
  for (unsigned number = 0; number < 50; ++number) {
    numbers.push_back(number);
    expected.push_back(keep(number, 80 * number + 1));
  }
  std::vector<std::vector<std::byte>> into(50);
  std::vector<FetchItem> items;
  for (std::uint32_t i = 0; i < 50; ++i) {
    into[i].resize(expected[i].size());
    items.push_back(whole(i, into[i]));
  }
  const Match match = lookup(numbers).value();
  const Result<TransferReport> report = fetch(match, items);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 50U);
  EXPECT_EQ(into, expected);
  EXPECT_EQ(report->lane_bytes.at(kWindowLane), report->bytes);
  EXPECT_TRUE(node1_.fetches.empty());
  EXPECT_EQ(node1_.windows_asked, 1U);
}

TEST_F(WindowReads, ASlotThatServesAnotherBlockMeanwhileIsNotBelieved) {
  begin();
  open_window();
  const std::vector<std::byte> bytes = keep(1, 4000);
  EXPECT_TRUE(reads(1, bytes));
  const Location was = at(1);
  const auto spoil = [&](std::function<void(SealContent&)> change, Generation generation) {
    change_ = std::move(change);
    write(1, generation, content(4000, 77));
    change_ = [](SealContent&) {};
    return !reads(1, bytes);
  };
  const auto nothing = [](SealContent&) {};
  EXPECT_TRUE(spoil(nothing, {was.generation.value + 1})) << "another use of the slot";
  EXPECT_TRUE(spoil([](SealContent& seal) { seal.entry.meta.key = {1, 2}; }, was.generation));
  EXPECT_TRUE(spoil([](SealContent& seal) { seal.entry.meta.part = 1; }, was.generation));
  EXPECT_TRUE(
      spoil([](SealContent& seal) { seal.entry.meta.space = NamespaceId{999}; }, was.generation));
  EXPECT_TRUE(spoil([](SealContent& seal) { seal.entry.length = 3999; }, was.generation));
  write(1, was.generation, bytes);
  clear_seal(arena_->seal(was.slot), {was.generation.value + 1});
  EXPECT_FALSE(reads(1, bytes)) << "a slot that is free";
  write(1, was.generation, bytes);
  arena_->seal(was.slot).depth += 1;
  EXPECT_FALSE(reads(1, bytes)) << "a seal that is torn";
  write(1, was.generation, bytes);
  EXPECT_TRUE(reads(1, bytes));
}

TEST_F(WindowReads, ASlotThatIsUsedAgainWhileItIsReadIsNotBelieved) {
  begin();
  open_window();
  const std::vector<std::byte> bytes = keep(1, 1'000'000);
  std::vector<std::byte> into(bytes.size());
  const Match match = lookup({1}).value();
  launch(match, {whole(0, into)});
  step_until([&] { return into.front() == bytes.front(); });  // its first half has landed
  const Location was = at(1);
  clear_seal(arena_->seal(was.slot), {was.generation.value + 1});
  write(1, {was.generation.value + 1}, content(bytes.size(), 77));
  step_until([&] { return result_.has_value(); });
  ASSERT_TRUE(*result_);
  EXPECT_FALSE((*result_)->lane_bytes.contains(kWindowLane));
  EXPECT_EQ(node1_.fetches.size(), 1U) << "the node is asked";
  EXPECT_EQ((*result_)->ok_count(), 1U) << "which has it, in this test";
  EXPECT_EQ(into, bytes);
}

TEST_F(WindowReads, AChecksumIsComparedUnlessItIsDeclined) {
  config_.verify_checksums = true;
  begin();
  open_window();
  const std::vector<std::byte> bytes = keep(1, 4000);
  EXPECT_TRUE(reads(1, bytes));
  arena_->memory(at(1).slot, 1)[0] ^= std::byte{1};
  EXPECT_FALSE(reads(1, bytes));
  EXPECT_EQ(node1_.fetches.size(), 1U);
}

TEST_F(WindowReads, AnotherLifeOfTheNodeIsNotReadThroughAnOldWindow) {
  const auto told = node1_.window;
  node1_.window = [told] {
    wire::WindowOpened other = told();
    other.incarnation = Incarnation{other.incarnation.value + 1};
    return other;
  };
  begin();
  open_window();
  EXPECT_FALSE(reads(1, keep(1, 4000)));
  EXPECT_EQ(node1_.fetches.size(), 1U);
}

TEST_F(WindowReads, AWindowThatMakesNoSenseIsNotUsed) {
  const auto told = node1_.window;
  const auto use = [&](auto spoil) {
    node1_.window = [told, spoil] {
      wire::WindowOpened other = told();
      spoil(other);
      return other;
    };
  };
  use([](wire::WindowOpened& it) { it.slots_offset = ~std::uint64_t{0} - 5; });
  begin();
  open_window();
  EXPECT_FALSE(reads(1, keep(1, 4000)));
  for (const int round : {0, 1, 2}) {
    use([round](wire::WindowOpened& it) {
      if (round == 0) it.capacity_bytes = ~std::uint64_t{0};
      if (round == 1) it.seals_offset = it.slots_offset + 1;
      if (round == 2) it.window.resize(3);
    });
    node1_.close(node1_.last_peer);  // a new connection asks anew
    run_for(seconds(2));
    open_window();
    const auto number = 50U + static_cast<unsigned>(round);
    EXPECT_FALSE(reads(number, keep(number, 100)));
    EXPECT_EQ(node1_.windows_asked, static_cast<std::size_t>(round) + 2);
  }
}

TEST_F(WindowReads, AWindowOfANodeThatHasGoneIsClosedWhenAnotherIsAsked) {
  std::size_t open = 0;
  windows_ = std::make_unique<CountedWindows>(std::move(windows_), open);
  begin();
  open_window();
  ASSERT_EQ(open, 1U);
  node1_.close(node1_.last_peer);
  run_for(seconds(2));
  const std::vector<std::byte> bytes = publish(1, 100, {&node2_});
  const Match match = lookup({1}).value();
  std::vector<std::byte> into(bytes.size());
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(fetch(match, {whole(0, into)}));
    run_for(milliseconds(50));
  }
  EXPECT_EQ(open, 0U);
}

TEST_F(WindowReads, ANodeWithoutAWindowIsAskedForOneOnce) {
  node1_.window = nullptr;
  begin();
  open_window();
  const std::vector<std::byte> bytes = keep(1, 4000);
  for (int round = 0; round < 5; ++round) EXPECT_FALSE(reads(1, bytes));
  EXPECT_EQ(node1_.windows_asked, 1U);
  EXPECT_EQ(node1_.fetches.size(), 5U);
}

TEST_F(WindowReads, OfANodeThatDiesGoOnWithTheNextReplica) {
  begin();
  open_window();
  const std::vector<std::byte> bytes = publish(1, 1'000'000, {&node1_, &node2_});
  write(1, at(1).generation, bytes);
  std::vector<std::byte> into(bytes.size());
  const Match match = lookup({1}).value();
  launch(match, {whole(0, into)});
  step_until([&] { return into.front() == bytes.front() || !node2_.fetches.empty(); });
  network_.kill("node1");
  step_until([&] { return result_.has_value(); });
  ASSERT_TRUE(*result_);
  EXPECT_EQ((*result_)->ok_count(), 1U);
  EXPECT_EQ(into, bytes);
}

TEST_F(WindowReads, ThatAreTakenBackEndWhenNothingCanLandAnyMore) {
  begin();
  open_window();
  const std::vector<std::byte> bytes = keep(1, 1'000'000);
  std::vector<std::byte> into(bytes.size());
  const Match match = lookup({1}).value();
  network_.partition("client", "node1", true);
  launch(match, {whole(0, into)});
  run_for(milliseconds(10));
  const TimePoint begun = clock_.now();
  token_->request();
  step_until([&] { return result_.has_value(); });
  EXPECT_EQ(result_->error().code, Errc::cancelled);
  EXPECT_LE(clock_.now() - begun, WindowRead::kDrain + milliseconds(100));
  const std::vector<std::byte> then = into;
  network_.heal_partitions();
  run_for(seconds(2));
  EXPECT_EQ(into, then);
}

TEST_F(WindowReads, EndAtTheirDeadline) {
  begin();
  open_window();
  std::vector<std::byte> into(keep(1, 1'000'000).size());
  const Match match = lookup({1}).value();
  network_.partition("client", "node1", true);
  const TimePoint begun = clock_.now();
  launch(match, {whole(0, into)}, within(milliseconds(300)));
  step_until([&] { return result_.has_value(); });
  ASSERT_TRUE(*result_);
  EXPECT_EQ((*result_)->items[0].why, Errc::timed_out);
  EXPECT_LE(clock_.now() - begun, milliseconds(300) + WindowRead::kDrain + milliseconds(100));
}

}  // namespace
}  // namespace membrain::client_test
