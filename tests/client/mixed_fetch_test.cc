// Fetches of which some is copied from a mapped arena, and the rest goes the checked way.
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "cache/client/copy_queue.h"
#include "cache/client/mapped_fetch.h"
#include "tests/client/mapped_fixture.h"

namespace membrain::mapped_test {
namespace {

/// A fetch of three blocks: one mapped, one elsewhere, one mapped and damaged.
class MixedFetchTest : public MappedTest {
 protected:
  struct Part {
    FetchList items;
    TransferOptions options;
    MixedFetch::Reported reported;
  };

  MixedFetchTest() {
    const std::vector<std::byte> bytes = content(5000, 6);
    Location elsewhere = keep(0, bytes);
    add_block(key_of(0), {elsewhere});
    elsewhere.node = NodeId{8};
    add_block(key_of(1), {elsewhere});
    const Location damaged = keep(4, bytes);
    node_->memory(damaged.slot, 1)[0] ^= std::byte{1};
    add_block(key_of(4), {damaged});
    memory_.resize(3 * bytes.size());
    for (std::uint32_t i = 0; i < 3; ++i) {
      items_.emplace_back().block = i;
      items_.back().into = {{memory_.data() + i * bytes.size(), bytes.size()}};
    }
  }
  std::shared_ptr<MixedFetch> fetch() {
    MixedFetch::Job job;
    job.match = match_;
    job.items = items_;
    job.options.timeout = std::chrono::milliseconds(100);
    job.options.on_item = [this](std::size_t item, const ItemOutcome& outcome) {
      told_.emplace_back(item, outcome.ok);
      if (on_copied_) on_copied_();
    };
    job.plan = plan_mapped(*match_, items_, set_).value();
    job.clock = &clock_;
    job.checked = [this](auto items, auto options, auto reported) {
      checked_.push_back({std::move(items), std::move(options), std::move(reported)});
    };
    job.reported = [this](Result<TransferReport> report) {
      report_.emplace(std::move(report));
      if (on_report_) on_report_();
    };
    return std::make_shared<MixedFetch>(std::move(job));
  }
  /// Ends a checked part: each of its items alike.
  void end(std::size_t part, const ItemOutcome& outcome) {
    TransferReport report;
    report.items.assign(checked_[part].items.size(), outcome);
    for (std::size_t i = 0; i < report.items.size(); ++i) {
      checked_[part].options.on_item(i, outcome);
    }
    if (outcome.ok) report.lane_bytes["tcp"] = report.bytes = 5000 * report.items.size();
    checked_[part].reported(std::move(report));
  }

  ManualClock clock_;
  std::vector<std::byte> memory_;
  std::vector<FetchItem> items_;
  std::vector<Part> checked_;
  std::vector<std::pair<std::size_t, bool>> told_;
  std::optional<Result<TransferReport>> report_;
  std::function<void()> on_copied_;
  std::function<void()> on_report_;
};

TEST_F(MixedFetchTest, ReportsOnceWhatWasCopiedAndWhatWentTheCheckedWay) {
  const auto mixed = fetch();
  mixed->start();
  ASSERT_EQ(checked_.size(), 1u);
  EXPECT_EQ(checked_[0].items[0].block, 1u);
  mixed->copy();
  ASSERT_EQ(checked_.size(), 2u) << "what could not be copied goes the checked way";
  EXPECT_EQ(checked_[1].items[0].block, 2u);
  EXPECT_FALSE(report_);
  end(1, {.ok = false, .why = Errc::corrupt});
  EXPECT_FALSE(report_);
  end(0, {.ok = true});
  ASSERT_TRUE(report_ && *report_);
  const TransferReport& report = **report_;
  ASSERT_EQ(report.items.size(), 3u);
  EXPECT_TRUE(report.items[0].ok);
  EXPECT_TRUE(report.items[1].ok);
  EXPECT_EQ(report.items[2].why, Errc::corrupt);
  EXPECT_EQ(report.bytes, 10'000u);
  EXPECT_EQ(report.lane_bytes.at("mapped"), 5000u);
  EXPECT_EQ(report.lane_bytes.at("tcp"), 5000u);
  EXPECT_EQ(told_, (std::vector<std::pair<std::size_t, bool>>{{0, true}, {2, false}, {1, true}}));
  const std::vector<std::byte> bytes = content(5000, 6);
  EXPECT_EQ(std::memcmp(memory_.data(), bytes.data(), bytes.size()), 0);
}

TEST_F(MixedFetchTest, FailsWhenACheckedPartDoes) {
  const auto mixed = fetch();
  mixed->copy();
  mixed->start();
  ASSERT_EQ(checked_.size(), 2u);
  checked_[0].reported(fail(Errc::unavailable, "the client is closing"));
  end(1, {.ok = true});
  ASSERT_TRUE(report_);
  ASSERT_FALSE(*report_);
  EXPECT_EQ(report_->error().code, Errc::unavailable);
}

TEST_F(MixedFetchTest, CopiesNothingMoreOnceItIsTakenBack) {
  const auto mixed = fetch();
  mixed->start();
  mixed->cancel();
  mixed->copy();
  ASSERT_EQ(checked_.size(), 1u);
  checked_[0].reported(fail(Errc::cancelled, "the fetch was taken back"));
  ASSERT_TRUE(report_);
  EXPECT_EQ(report_->error().code, Errc::cancelled);
  EXPECT_EQ(memory_, std::vector<std::byte>(memory_.size()));
}

TEST_F(MixedFetchTest, CopiesNothingAfterTheDeadline) {
  const auto mixed = fetch();
  mixed->start();
  clock_.advance(std::chrono::milliseconds(100));
  mixed->copy();
  ASSERT_EQ(checked_.size(), 1u);
  end(0, {.ok = true});
  ASSERT_TRUE(report_ && *report_);
  EXPECT_EQ((*report_)->items[0].why, Errc::timed_out);
  EXPECT_EQ((*report_)->items[2].why, Errc::timed_out);
}

TEST_F(MixedFetchTest, WithNobodyToCopyAllOfItGoesTheCheckedWay) {
  const auto mixed = fetch();
  mixed->start();
  mixed->ask();
  ASSERT_EQ(checked_.size(), 2u);
  ASSERT_EQ(checked_[1].items.size(), 2u);
  EXPECT_EQ(checked_[1].items[1].block, 2u);
  end(0, {.ok = true});
  end(1, {.ok = true});
  ASSERT_TRUE(report_ && *report_);
  EXPECT_EQ((*report_)->ok_count(), 3u);
  EXPECT_FALSE((*report_)->lane_bytes.contains("mapped"));
}

TEST_F(MixedFetchTest, GivenUpBeforeItIsCopiedItEndsAtOnce) {
  const auto mixed = fetch();
  mixed->start();
  mixed->give_up(Errc::cancelled);
  checked_[0].reported(fail(Errc::cancelled, "the fetch was taken back"));
  ASSERT_TRUE(report_);
  EXPECT_EQ(report_->error().code, Errc::cancelled);
  report_.reset();
  mixed->copy();
  EXPECT_FALSE(report_) << "it has ended once";
  EXPECT_EQ(memory_, std::vector<std::byte>(memory_.size()));
}

TEST_F(MixedFetchTest, GivenUpWhileItIsCopiedItGoesOn) {
  const auto mixed = fetch();
  mixed->start();
  mixed->copy([&mixed] { mixed->give_up(Errc::timed_out); });
  end(0, {.ok = true});
  end(1, {.ok = true});
  ASSERT_TRUE(report_ && *report_);
  EXPECT_EQ((*report_)->ok_count(), 3u);
}

TEST_F(MixedFetchTest, OneThatWaitsEndsAtItsDeadline) {
  CopyQueue queue(clock_, 1);
  const auto first = fetch();
  first->start();
  const auto second = fetch();
  second->start();
  end(1, {.ok = true});
  std::promise<void> begun;
  std::promise<void> go_on;
  on_copied_ = [&, first_item = true]() mutable {
    if (!std::exchange(first_item, false)) return;
    begun.set_value();
    go_on.get_future().wait();
  };
  ASSERT_TRUE(queue.post(first));
  begun.get_future().wait();
  ASSERT_TRUE(queue.post(second));
  std::promise<void> told;
  on_report_ = [&told] { told.set_value(); };
  clock_.advance(std::chrono::milliseconds(100));
  go_on.set_value();
  told.get_future().wait();  // though the first has not ended
  ASSERT_TRUE(report_ && *report_);
  EXPECT_EQ((*report_)->items[0].why, Errc::timed_out);
  EXPECT_TRUE((*report_)->items[1].ok);
  EXPECT_EQ((*report_)->items[2].why, Errc::timed_out);
  queue.stop();
}

}  // namespace
}  // namespace membrain::mapped_test
