// Blocks between a paged cache on a device and the host.
#include "transport/cuda/staging.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "tests/cuda/gpu_fixture.h"

namespace membrain::cuda_test {
namespace {

using cuda::ChunkTable;
using cuda::DeviceBuffer;
using cuda::DevicePiece;
using cuda::Event;
using cuda::StagingSlot;
using cuda::Stream;
namespace fake = cuda::fake;

constexpr std::size_t kSlotBytes = 4 << 20;

class CudaStaging : public WithGpu {
 protected:
  void SetUp() override {
    WithGpu::SetUp();
    if (IsSkipped()) return;
    slot_ = StagingSlot::create(device_, kSlotBytes).value();
    cache_ =
        std::make_unique<DeviceBuffer>(DeviceBuffer::allocate(device_, 2 * kSlotBytes).value());
    fill(noise(cache_->size(), 1));
  }
  void TearDown() override {
    fake::pause(false);
    slot_.reset();
    cache_.reset();
    WithGpu::TearDown();
  }

  void fill(const std::vector<std::byte>& bytes) {
    std::memcpy(memory_of(*cache_), bytes.data(), bytes.size());
  }
  [[nodiscard]] std::vector<std::byte> cache() const {
    return {memory_of(*cache_), memory_of(*cache_) + cache_->size()};
  }
  [[nodiscard]] DevicePiece piece(std::uint64_t at, std::uint64_t bytes) const {
    return {cache_->address() + at, bytes};
  }
  /// Every second of `count` pieces of `bytes`, in another order.
  [[nodiscard]] std::vector<DevicePiece> scattered(std::size_t count, std::uint64_t bytes) const {
    std::vector<DevicePiece> pieces;
    for (std::size_t i = 0; i < count; ++i) pieces.push_back(piece(2 * i * bytes, bytes));
    std::ranges::shuffle(pieces, std::mt19937_64(count));
    return pieces;
  }
  static void count(void* calls) { ++*static_cast<std::atomic<int>*>(calls); }

  void expect_gathered(const std::vector<DevicePiece>& pieces) {
    calls_ = 0;
    ASSERT_TRUE(slot_->gather(pieces, nullptr, count, &calls_));
    ASSERT_TRUE(slot_->synchronize());
    EXPECT_EQ(calls_, 1);
    EXPECT_TRUE(slot_->landed().value());
    const std::byte* got = slot_->host().data();
    for (const DevicePiece& from : pieces) {
      ASSERT_EQ(std::memcmp(got, reinterpret_cast<const void*>(from.address), from.bytes), 0);
      got += from.bytes;
    }
  }
  /// What is not a piece must stay as it is.
  void expect_scattered(const std::vector<DevicePiece>& pieces) {
    std::vector<std::byte> wanted = cache();
    const std::vector<std::byte> bytes = noise(kSlotBytes, pieces.size());
    std::memcpy(slot_->host().data(), bytes.data(), bytes.size());
    std::size_t at = 0;
    for (const DevicePiece& to : pieces) {
      std::memcpy(wanted.data() + (to.address - cache_->address()), bytes.data() + at, to.bytes);
      at += to.bytes;
    }
    calls_ = 0;
    ASSERT_TRUE(slot_->scatter(pieces, count, &calls_));
    ASSERT_TRUE(slot_->synchronize());
    EXPECT_EQ(calls_, 1);
    EXPECT_TRUE(cache() == wanted);
  }

  std::unique_ptr<StagingSlot> slot_;
  std::unique_ptr<DeviceBuffer> cache_;
  std::atomic<int> calls_ = 0;
};

TEST_F(CudaStaging, GathersAndScattersPiecesOfEverySize) {
  for (const std::uint64_t bytes : {16U, 256U, 4096U, 16384U, 32768U, 32784U, 65536U, 262144U}) {
    const std::size_t count = std::min<std::size_t>(kSlotBytes / bytes, 500);
    expect_gathered(scattered(count, bytes));
    expect_scattered(scattered(count, bytes));
  }
}

TEST_F(CudaStaging, MovesPiecesThatAreAlignedToNothing) {
  const std::vector<DevicePiece> pieces{piece(1, 33), piece(100, 4099), piece(9000, 1),
                                        piece(10'003, 40'000)};
  expect_gathered(pieces);
  expect_scattered(pieces);
}

TEST_F(CudaStaging, MovesOneRunWithoutAKernel) {
  std::vector<DevicePiece> pieces;
  for (std::uint64_t i = 0; i < 16; ++i) pieces.push_back(piece(i * 4096, 4096));
  const std::uint64_t calls = fake::calls();
  expect_gathered(pieces);
  EXPECT_LE(fake::calls() - calls, 5u);  // copy, record, call, synchronize, query
  expect_scattered(pieces);
}

TEST_F(CudaStaging, JoinsPiecesThatFollowEachOther) {
  const std::vector<DevicePiece> pieces{piece(0, 16), piece(16, 32), piece(64, 16), piece(48, 16)};
  std::vector<cuda::DeviceRun> runs;
  cuda::join_runs(pieces, runs);
  ASSERT_EQ(runs.size(), 3u);
  EXPECT_EQ(runs[0].bytes, 48u);
  EXPECT_EQ(runs[1].address, cache_->address() + 64);
  EXPECT_EQ(runs[2].bytes, 16u);
  EXPECT_EQ(runs[2].staged_at, 64u);
}

TEST_F(CudaStaging, PassesOverBytesThatAreNotWanted) {
  const std::vector<DevicePiece> all = scattered(6, 4096);
  std::vector<DevicePiece> wanted = all;
  for (const std::size_t hole : {0U, 3U, 5U}) wanted[hole].address = 0;
  for (const std::vector<DevicePiece>& pieces :
       {wanted, std::vector<DevicePiece>{{0, 4096}, all[1], {0, 4096}}}) {
    std::vector<std::byte> expected = cache();
    const std::vector<std::byte> bytes = noise(kSlotBytes, 77);
    std::memcpy(slot_->host().data(), bytes.data(), bytes.size());
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      if (pieces[i].address == 0) continue;
      std::memcpy(expected.data() + (pieces[i].address - cache_->address()),
                  bytes.data() + i * 4096, 4096);
    }
    ASSERT_TRUE(slot_->scatter(pieces, count, &calls_));
    ASSERT_TRUE(slot_->synchronize());
    EXPECT_TRUE(cache() == expected);
  }
  EXPECT_FALSE(slot_->scatter(std::vector<DevicePiece>{{0, 4096}}, count, &calls_));
}

TEST_F(CudaStaging, FillsItsSlotToTheLastByteAndRefusesOneMore) {
  expect_gathered({piece(0, kSlotBytes / 2), piece(kSlotBytes, kSlotBytes / 2)});
  const std::vector<DevicePiece> more{piece(0, kSlotBytes / 2),
                                      piece(kSlotBytes, kSlotBytes / 2 + 1)};
  const Result<> refused = slot_->gather(more, nullptr, count, &calls_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::invalid_argument);
}

TEST_F(CudaStaging, RefusesMorePiecesThanItsTableHolds) {
  expect_scattered(scattered(ChunkTable::kMaxChunks, 16));
  const Result<> refused =
      slot_->scatter(scattered(ChunkTable::kMaxChunks + 1, 16), count, &calls_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::invalid_argument);
}

TEST_F(CudaStaging, SaysWhenItIsOver) {
  fake::pause(true);
  calls_ = 0;
  ASSERT_TRUE(slot_->gather(scattered(10, 4096), nullptr, count, &calls_));
  EXPECT_FALSE(slot_->landed().value());
  EXPECT_EQ(calls_, 0);
  fake::pause(false);
  ASSERT_TRUE(slot_->synchronize());
  EXPECT_TRUE(slot_->landed().value());
}

TEST_F(CudaStaging, GathersNotBeforeTheCallersEvent) {
  auto engine = Stream::create(device_).value();
  auto computed = Event::create(device_).value();
  const std::vector<std::byte> later = noise(cache_->size(), 2);
  fake::pause(true);
  ASSERT_TRUE(
      engine.copy(cache_->address(), reinterpret_cast<cuda::Address>(later.data()), later.size()));
  ASSERT_TRUE(computed.record(engine));
  const std::vector<DevicePiece> pieces = scattered(100, 4096);
  ASSERT_TRUE(slot_->gather(pieces, computed.raw(), count, &calls_));
  fake::pause(false);
  ASSERT_TRUE(slot_->synchronize());
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    EXPECT_EQ(std::memcmp(slot_->host().data() + i * 4096,
                          later.data() + (pieces[i].address - cache_->address()), 4096),
              0);
  }
}

TEST_F(CudaStaging, HasNothingUnderWayAfterAnyFailure) {
  const std::vector<DevicePiece> pieces = scattered(10, 4096);
  const std::uint64_t calls = fake::calls();
  expect_scattered(pieces);
  const std::uint64_t needed = fake::calls() - calls;
  int failed = 0;
  for (std::uint64_t call = 0; call < needed; ++call) {
    calls_ = 0;
    fake::fail_call(call, cuda::kOutOfMemory);
    const Result<> queued = slot_->scatter(pieces, count, &calls_);
    fake::repair();
    if (queued) {
      ASSERT_TRUE(slot_->synchronize());
      EXPECT_EQ(calls_, 1);
    } else {
      ++failed;
      EXPECT_EQ(queued.error().code, Errc::out_of_capacity);
      EXPECT_EQ(calls_, 0);
    }
  }
  EXPECT_GE(failed, 5);  // two copies, kernel, mark, call
  expect_scattered(pieces);
}

TEST_F(CudaStaging, TellsOfADeviceThatFailed) {
  fake::pause(true);
  calls_ = 0;
  ASSERT_TRUE(slot_->scatter(scattered(10, 4096), count, &calls_));
  fake::break_down();
  fake::pause(false);
  const Result<bool> landed = slot_->landed();
  ASSERT_FALSE(landed);
  EXPECT_EQ(landed.error().code, Errc::unavailable);
  EXPECT_EQ(calls_, 0);
  EXPECT_FALSE(slot_->scatter(scattered(10, 4096), count, &calls_));
}

TEST_F(CudaStaging, LendsEachSlotOnce) {
  const auto staging = cuda::Staging::create(device_, 2, 1 << 20).value();
  StagingSlot* const one = staging->take();
  StagingSlot* const two = staging->take();
  ASSERT_TRUE(one != nullptr && two != nullptr && one != two);
  EXPECT_EQ(staging->take(), nullptr);
  staging->give_back(one);
  EXPECT_EQ(staging->take(), one);
}

TEST_F(CudaStaging, GivesEverythingBackWhicheverCallFails) {
  const std::size_t before = fake::owned();
  const std::uint64_t calls = fake::calls();
  ASSERT_TRUE(cuda::Staging::create(device_, 3, 1 << 20));
  const std::uint64_t needed = fake::calls() - calls;
  for (std::uint64_t call = 0; call < needed; ++call) {
    fake::fail_call(call, cuda::kOutOfMemory);
    static_cast<void>(cuda::Staging::create(device_, 3, 1 << 20));
    EXPECT_EQ(fake::owned(), before) << "call " << call;
  }
}

}  // namespace
}  // namespace membrain::cuda_test
