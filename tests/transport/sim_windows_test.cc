// Remote reads in a simulated network: whole, torn, late, and ended.
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "transport/loop.h"
#include "transport/sim_network.h"

namespace membrain::sim_test {
namespace {

using std::chrono::milliseconds;

class SimWindowsTest : public testing::Test {
 protected:
  SimWindowsTest() {
    for (std::size_t i = 0; i < memory_.size(); ++i) memory_[i] = static_cast<std::byte>(i * 7);
    remote_ = reader_->enter(owner_->open(memory_).value()).value();
  }
  ~SimWindowsTest() override {
    if (remote_) close();
  }
  void begin() {
    done_.emplace(reader_loop_.ready());
    const Segment pieces[] = {{into_.data(), 100}, {into_.data() + 100, into_.size() - 100}};
    remote_->read(1000, pieces, *done_);
  }
  void finish() {
    for (int i = 0; i < 100'000 && !done_->done(); ++i) network_.step();
    ASSERT_TRUE(done_->done());
  }
  static Task<> close_into(RemoteWindow& window, bool& closed) {
    Task<> closing = window.close();
    co_await closing;
    closed = true;
  }
  void close() {
    bool closed = false;
    reader_loop_.spawn(close_into(*remote_, closed));
    for (int i = 0; i < 100'000 && !closed; ++i) network_.step();
    ASSERT_TRUE(closed);
    remote_.reset();
  }
  [[nodiscard]] bool whole() const {
    return std::equal(into_.begin(), into_.end(), memory_.begin() + 1000);
  }

  ManualClock clock_;
  SimNetwork network_{clock_, 7};
  Loop owner_loop_{clock_};
  Loop reader_loop_{clock_};
  std::unique_ptr<Fabric> owner_fabric_ = network_.make_fabric(owner_loop_, "owner");
  std::unique_ptr<Fabric> reader_fabric_ = network_.make_fabric(reader_loop_, "reader");
  std::unique_ptr<Windows> owner_ = network_.make_windows(owner_loop_, "owner");
  std::unique_ptr<Windows> reader_ = network_.make_windows(reader_loop_, "reader");
  std::vector<std::byte> memory_ = std::vector<std::byte>(1'000'000);
  std::vector<std::byte> into_ = std::vector<std::byte>(500'000);
  std::unique_ptr<RemoteWindow> remote_;
  std::optional<Completion> done_;
};

TEST_F(SimWindowsTest, AReadBringsEveryByteEvenWhileTheOwnerStandsStill) {
  network_.pause("owner");
  begin();
  finish();
  EXPECT_TRUE(done_->outcome());
  EXPECT_TRUE(whole());
}

TEST_F(SimWindowsTest, WhatTheOwnerWritesMeanwhileMayTearARead) {
  begin();
  const auto changed = [&] { return into_[0] == memory_[1000]; };
  for (int i = 0; i < 100'000 && !changed(); ++i) network_.step();
  std::fill(memory_.begin(), memory_.end(), std::byte{0xaa});
  finish();
  EXPECT_TRUE(done_->outcome());
  EXPECT_NE(into_.front(), std::byte{0xaa});
  EXPECT_EQ(into_.back(), std::byte{0xaa});
}

TEST_F(SimWindowsTest, ADeadOwnerEndsReads) {
  begin();
  network_.kill("owner");
  finish();
  EXPECT_EQ(done_->outcome().error().code, Errc::peer_lost);
  EXPECT_FALSE(remote_->usable());
  begin();
  EXPECT_EQ(done_->outcome().error().code, Errc::peer_lost);
}

TEST_F(SimWindowsTest, APartitionHoldsReadsAndThenEndsThem) {
  network_.partition("owner", "reader", true);
  begin();
  const TimePoint begun = clock_.now();
  finish();
  EXPECT_FALSE(done_->outcome());
  EXPECT_GE(clock_.now() - begun, network_.faults().partition_notice);
}

TEST_F(SimWindowsTest, ReadsSurviveAShortPartition) {
  network_.partition("owner", "reader", true);
  begin();
  for (int i = 0; i < 20; ++i) network_.step();
  EXPECT_FALSE(done_->done());
  network_.heal_partitions();
  finish();
  EXPECT_TRUE(done_->outcome());
  EXPECT_TRUE(whole());
}

TEST_F(SimWindowsTest, ClosingEndsReadsAndNothingLandsAfterwards) {
  begin();
  close();
  ASSERT_TRUE(done_->done());
  EXPECT_FALSE(done_->outcome());
  const std::vector<std::byte> then = into_;
  for (int i = 0; i < 1000; ++i) network_.step();
  EXPECT_EQ(into_, then);
}

TEST_F(SimWindowsTest, BitsFlip) {
  SimFaults faults = network_.faults();
  faults.bit_flip = 1;
  network_.set_faults(faults);
  begin();
  finish();
  EXPECT_TRUE(done_->outcome());
  EXPECT_FALSE(whole());
}

TEST_F(SimWindowsTest, NothingOutsideIsRead) {
  Completion refused(reader_loop_.ready());
  const Segment piece{into_.data(), 10};
  remote_->read(memory_.size() - 9, {&piece, 1}, refused);
  EXPECT_EQ(refused.outcome().error().code, Errc::invalid_argument);
  EXPECT_FALSE(reader_->enter(std::vector<std::byte>(16)));
  EXPECT_FALSE(reader_->enter({}));
}

}  // namespace
}  // namespace membrain::sim_test
