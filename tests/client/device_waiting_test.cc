// What transfers of a GPU's memory wait for, and how long: events, slots, copies under way.
#include <gtest/gtest.h>

#include <list>
#include <optional>
#include <vector>

#include "tests/client/device_fixture.h"

namespace membrain::client_test {
namespace {

TEST_F(DeviceTransfers, AStoreReadsNothingBeforeTheEnginesEvent) {
  auto computed = cuda::Event::create(gpu_).value();
  const FetchItem page = paged(0, 8192, 2);
  const std::vector<std::byte> later = content(16'384, 99);
  fake::pause(true);
  ASSERT_TRUE(engine_->copy(cache_->address(), reinterpret_cast<cuda::Address>(later.data()),
                            later.size()));
  ASSERT_TRUE(computed.record(*engine_));
  launch_store({block(1, page)}, on_gpu({}, computed.raw()));
  run_for(milliseconds(20));
  EXPECT_FALSE(end_) << "the engine has not computed it yet";
  fake::pause(false);
  settle();
  ASSERT_TRUE(*end_);
  EXPECT_EQ((*end_)->ok_count(), 1U);
  const auto& node = node1_.stored.empty() ? node2_ : node1_;
  std::vector<std::byte> wanted(later.begin(), later.begin() + 4096);
  wanted.insert(wanted.end(), later.begin() + 8192, later.begin() + 12'288);
  EXPECT_EQ(node.stored.at(key_of(1)), wanted);
}

TEST_F(DeviceTransfers, AFetchWritesNothingBeforeTheEnginesEvent) {
  const Match match = published(1, 4096);
  auto read = cuda::Event::create(gpu_).value();
  const FetchItem page = paged(0, 4096, 2);
  const std::vector<std::byte> before = bytes_of(page);
  fake::pause(true);
  ASSERT_TRUE(read.record(*engine_));
  launch(match, {page}, on_gpu({}, read.raw()));
  run_for(milliseconds(20));
  EXPECT_FALSE(end_);
  EXPECT_EQ(bytes_of(page), before);
  fake::pause(false);
  settle();
  ASSERT_TRUE(*end_);
  EXPECT_EQ(bytes_of(page), expected_[0]);
}

/// Engines capture their graphs at any time, and whatever is asked of the GPU could spoil one.
TEST_F(DeviceTransfers, SpoilNoGraphThatIsCapturedMeanwhile) {
  const Match match = published(1, 4096);
  auto computed = cuda::Event::create(gpu_).value();
  const FetchItem page = paged(0, 4096, 2);
  fake::begin_capture();
  fake::pause(true);
  ASSERT_TRUE(computed.record(*engine_));
  launch(match, {page}, on_gpu({}, computed.raw()));
  run_for(milliseconds(20));
  EXPECT_FALSE(end_) << "the event is asked for";
  fake::pause(false);
  settle();
  ASSERT_TRUE(*end_);
  EXPECT_EQ(bytes_of(page), expected_[0]);
  end_.reset();
  launch_store({block(7, page)}, on_gpu({}, computed.raw()));
  settle();
  ASSERT_TRUE(*end_);
  EXPECT_EQ((*end_)->ok_count(), 1U);
  const auto other = DeviceLane::open(data_loop_, gpu_, 1, kSlotBytes);
  EXPECT_TRUE(other) << "a lane of a client that is opened meanwhile";
  EXPECT_TRUE(fake::end_capture());
}

TEST_F(DeviceTransfers, AnEventThatDoesNotComeIsWaitedForUntilTheDeadline) {
  auto computed = cuda::Event::create(gpu_).value();
  fake::pause(true);
  ASSERT_TRUE(computed.record(*engine_));
  const TimePoint begun = clock_.now();
  launch_store({block(1, paged(0, 8192, 2))}, on_gpu(milliseconds(50), computed.raw()));
  settle();
  ASSERT_TRUE(*end_);
  EXPECT_EQ((*end_)->items[0].why, Errc::timed_out);
  EXPECT_GE(clock_.now() - begun, milliseconds(50));
  EXPECT_LE(clock_.now() - begun, milliseconds(60));
  EXPECT_TRUE(node1_.stores.empty() && node2_.stores.empty());
  fake::pause(false);
}

TEST_F(DeviceTransfers, ThatAreTakenBackEndWithNothingUnderWay) {
  auto computed = cuda::Event::create(gpu_).value();
  fake::pause(true);
  ASSERT_TRUE(computed.record(*engine_));
  launch_store({block(1, paged(0, 8192, 2))}, on_gpu({}, computed.raw()));
  run_for(milliseconds(2));
  token_->request();
  settle();
  ASSERT_FALSE(*end_);
  EXPECT_EQ(end_->error().code, Errc::cancelled);
  fake::pause(false);
}

TEST_F(DeviceTransfers, ACopyThatIsUnderWayIsWaitedFor) {
  const Match match = published(1, 4096);
  const FetchItem page = paged(0, 4096, 2);
  fake::pause(true);
  launch(match, {page}, on_gpu(milliseconds(100)));
  run_for(milliseconds(20));  // the block is in the slot, the copy is queued
  token_->request();
  run_for(milliseconds(500));
  EXPECT_FALSE(end_) << "bytes may still land";
  fake::pause(false);
  settle();
  ASSERT_FALSE(*end_);
  EXPECT_EQ(end_->error().code, Errc::cancelled);
}

TEST_F(DeviceTransfers, AfterTheDeadlineNoFurtherPartIsBegun) {
  constexpr unsigned kBlocks = 6;
  constexpr std::size_t kBytes = 600'000;  // one to a slot
  const Match match = published(kBlocks, kBytes);
  std::vector<FetchItem> pages;
  for (unsigned block = 0; block < kBlocks; ++block) pages.push_back(paged(block, kBytes, 2));
  fake::pause(true);
  launch(match, pages, on_gpu(milliseconds(100)));
  run_for(milliseconds(150));
  EXPECT_FALSE(end_) << "copies are under way";
  const std::size_t asked = node1_.fetches.size() + node2_.fetches.size();
  fake::pause(false);
  settle();
  ASSERT_TRUE(*end_);
  EXPECT_EQ((*end_)->ok_count(), kSlots);
  EXPECT_EQ((*end_)->items[kBlocks - 1].why, Errc::timed_out);
  EXPECT_EQ(node1_.fetches.size() + node2_.fetches.size(), asked);
}

TEST_F(DeviceTransfers, WaitForASlotNoLongerThanTheirDeadline) {
  const Match match = published(1, 4096);
  std::list<std::optional<Result<TransferReport>>> ends;
  fake::pause(true);
  for (std::size_t i = 0; i < kSlots; ++i) {
    data_loop_.spawn(put_into(
        core_->fetch(match.state(), std::vector<FetchItem>{paged(0, 4096, 2)}, on_gpu(), nullptr),
        ends.emplace_back()));
  }
  run_for(milliseconds(20));
  launch(match, {paged(0, 4096, 2)}, on_gpu(milliseconds(30)));
  settle();
  ASSERT_TRUE(*end_);
  EXPECT_EQ((*end_)->items[0].why, Errc::timed_out);
  end_.reset();
  launch(match, {paged(0, 4096, 2)}, on_gpu());
  run_for(milliseconds(5));
  token_->request();
  settle();
  EXPECT_EQ(end_->error().code, Errc::cancelled);
  end_.reset();
  const FetchItem last = paged(0, 4096, 2);
  launch(match, {last}, on_gpu());
  fake::pause(false);
  settle();
  EXPECT_EQ((*end_)->ok_count(), 1U);
  EXPECT_EQ(bytes_of(last), expected_[0]);
  step_until(
      [&] { return std::ranges::all_of(ends, [](const auto& end) { return end.has_value(); }); });
  for (const auto& end : ends) EXPECT_EQ((*end)->ok_count(), 1U);
}

}  // namespace
}  // namespace membrain::client_test
