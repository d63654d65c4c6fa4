// Shared blocks that the network takes from a slot on their GPU, and brings to one on another.
#include <gtest/gtest.h>

#include "tests/share/share_house.h"

namespace membrain::share_test {
namespace {

class StraightSharing : public ShareHouse {
 protected:
  void SetUp() override {
    ShareHouse::SetUp();
    if (IsSkipped()) return;
    gpu_reader_ = engine("second", true, true);
  }
  void TearDown() override {
    second_ = std::move(gpu_reader_);
    ShareHouse::TearDown();
  }
  std::vector<FetchItem> shared(unsigned count) {
    std::vector<FetchItem> items;
    for (unsigned number = 0; number < count; ++number) {
      EXPECT_TRUE(share(number, number));
      items.push_back(paged_into(number, number));
    }
    return items;
  }

  std::unique_ptr<Engine> gpu_reader_;
};

TEST_F(StraightSharing, BlocksGoFromGpuToGpu) {
  for (const auto allowed : {DevicePayloads::between_devices, DevicePayloads::any}) {
    allow(allowed);
    const SimStats before = network_.stats();
    const std::vector<FetchItem> items = allowed == DevicePayloads::any
                                             ? std::vector{paged_into(0, 9), paged_into(1, 8)}
                                             : shared(2);
    const Match match = found(*gpu_reader_, {0, 1});
    const auto report = fetch_into_gpu(*gpu_reader_, match, items);
    ASSERT_TRUE(report) << report.error().context;
    EXPECT_EQ(report->ok_count(), 2U);
    EXPECT_EQ(report->lane_bytes.at("sim_gpu"), 2 * kBlockBytes);
    for (unsigned number = 0; number < 2; ++number) {
      EXPECT_EQ(bytes_of(items[number]), content(number));
    }
    EXPECT_GT(network_.stats().sent_from_devices, before.sent_from_devices);
    EXPECT_GT(network_.stats().received_into_devices, before.received_into_devices);
  }
}

TEST_F(StraightSharing, ALinkOfGpusServesReadersInHostMemoryFromTheHost) {
  allow(DevicePayloads::between_devices);
  shared(2);
  const Match match = found(*reader_, {0, 1});
  std::vector<std::vector<std::byte>> places(2);
  ASSERT_EQ(fetch(*reader_, match, places)->ok_count(), 2U);
  for (unsigned number = 0; number < 2; ++number) EXPECT_EQ(places[number], content(number));
  EXPECT_EQ(network_.stats().sent_from_devices, 0U);
}

TEST_F(StraightSharing, ANetworkCardTakesThemFromTheGpuToAnyReader) {
  allow(DevicePayloads::any);
  shared(2);
  const Match match = found(*reader_, {0, 1});
  std::vector<std::vector<std::byte>> places(2);
  ASSERT_EQ(fetch(*reader_, match, places)->ok_count(), 2U);
  for (unsigned number = 0; number < 2; ++number) EXPECT_EQ(places[number], content(number));
  EXPECT_GT(network_.stats().sent_from_devices, 0U);
  EXPECT_EQ(network_.stats().received_into_devices, 0U);
}

TEST_F(StraightSharing, PartsOfBlocksComeThroughTheHost) {
  allow(DevicePayloads::between_devices);
  shared(1);
  const Match match = found(*gpu_reader_, {0});
  FetchItem item = paged_into(0, 9);
  item.into.resize(1);
  item.offset = kPieceBytes / 2;
  item.length = kPieceBytes;
  ASSERT_EQ(fetch_into_gpu(*gpu_reader_, match, {item})->ok_count(), 1U);
  const std::vector<std::byte> whole = content(0);
  EXPECT_EQ(bytes_of(item), std::vector<std::byte>(whole.begin() + kPieceBytes / 2,
                                                   whole.begin() + kPieceBytes / 2 + kPieceBytes));
  EXPECT_EQ(network_.stats().sent_from_devices, 0U);
}

TEST_F(StraightSharing, ABlockThatChangedIsFoundOutByTheReadersGpu) {
  allow(DevicePayloads::between_devices);
  ASSERT_TRUE(share(3, 9));
  const Match match = found(*gpu_reader_, {9});
  write(3, 10);
  const FetchItem item = paged_into(0, 5);
  const std::vector<std::byte> before = bytes_of(item);
  const auto report = fetch_into_gpu(*gpu_reader_, match, {item});
  ASSERT_TRUE(report);
  EXPECT_EQ(report->ok_count(), 0U);
  EXPECT_EQ(bytes_of(item), before);
  step_until([&] { return sharer_->table().place_count() == 0; });
  EXPECT_EQ(sharer_->counters().corrupt_slots.load(), 1U);
}

TEST_F(StraightSharing, TakingBackDoesNotWaitForAReaderThatHangs) {
  allow(DevicePayloads::between_devices);
  ASSERT_TRUE(share(3, 9));
  const Match match = found(*gpu_reader_, {9});
  SimFaults slow;
  slow.bytes_per_second = 1'000'000;
  network_.set_faults(slow);
  std::optional<Result<TransferReport>> end;
  const FetchItem item = paged_into(0, 5);
  gpu_reader_->data_loop.spawn(put_into(
      gpu_reader_->core.fetch(match.state(), FetchList({item}), into_gpu(), nullptr), end));
  step_until([&] { return network_.stats().received_into_devices != 0; });
  network_.pause("second");
  const TimePoint asked = clock_.now();
  unshare(3);
  EXPECT_LT(clock_.now() - asked, milliseconds(20));
  write(3, 10);
  run_for(ShareService::kHung + milliseconds(100));  // its connection is closed, the slot is free
  network_.set_faults({});
  ASSERT_TRUE(share(4, 11));
  std::vector<std::vector<std::byte>> places(1);
  EXPECT_EQ(fetch(*reader_, found(*reader_, {11}), places)->ok_count(), 1U);
  network_.resume("second");
  step_until([&] { return end.has_value(); });
  if (*end && (*end)->items[0].ok) {
    EXPECT_EQ(bytes_of(item), content(9)) << "a byte that came late";
  }
}

TEST_F(StraightSharing, AnOwnerWhoseDriverFailsServesByOtherWaysOrNotAtAll) {
  allow(DevicePayloads::between_devices);
  const std::vector<FetchItem> items = shared(2);
  const Match match = found(*gpu_reader_, {0, 1});
  const std::uint64_t before = fake::calls();
  ASSERT_EQ(fetch_into_gpu(*gpu_reader_, match, items)->ok_count(), 2U);
  const std::uint64_t needed = fake::calls() - before;
  std::size_t lost = 0;
  for (std::uint64_t call = 0; call < needed; ++call) {
    fake::fail_call(call, cuda::kOutOfMemory);
    const auto report = fetch_into_gpu(*gpu_reader_, match, items);
    fake::repair();
    if (!report) ++lost;
    for (unsigned number = 0; report && number < 2; ++number) {
      if (!report->items[number].ok) {
        ++lost;
      } else {
        ASSERT_EQ(bytes_of(items[number]), content(number)) << "call " << call;
      }
    }
    run_for(milliseconds(5));
  }
  EXPECT_GT(lost, 0U);
}

}  // namespace
}  // namespace membrain::share_test
