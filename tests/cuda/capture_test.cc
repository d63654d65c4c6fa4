// What we do on a GPU while an engine captures a graph: nothing that spoils it.
#include <gtest/gtest.h>

#include <atomic>

#include "tests/cuda/gpu_fixture.h"
#include "transport/cuda/staging.h"

namespace membrain::cuda_test {
namespace {

using cuda::CaptureMode;
using cuda::Device;
using cuda::DeviceBuffer;
using cuda::DevicePiece;
using cuda::Event;
using cuda::HostRegistration;
using cuda::PinnedBuffer;
using cuda::Stream;
namespace fake = cuda::fake;

constexpr std::size_t kBytes = 1 << 20;

class CudaCapture : public WithGpu {
 protected:
  /// The thread's; asking leaves it as it is.
  [[nodiscard]] CaptureMode mode() const {
    CaptureMode asked = CaptureMode::global;
    driver_->api().exchange_capture_mode(&asked);
    CaptureMode given_back = asked;
    driver_->api().exchange_capture_mode(&given_back);
    return asked;
  }
  static void count(void* calls) { ++*static_cast<std::atomic<int>*>(calls); }
};

TEST_F(CudaCapture, IsSpoiledByWhoeverAllocatesAmidIt) {
  fake::begin_capture();
  EXPECT_TRUE(fake::end_capture());
  fake::begin_capture();
  cuda::Address memory = 0;
  constexpr cuda::Status kUnsupported = 900;
  EXPECT_EQ(driver_->api().allocate(&memory, kBytes), kUnsupported);
  EXPECT_FALSE(fake::end_capture());
}

TEST_F(CudaCapture, LivesThroughTheOpeningAndClosingOfADevice) {
  fake::begin_capture();
  for (const int ordinal : {0, 1}) EXPECT_TRUE(Device::open(driver_, ordinal));
  EXPECT_TRUE(fake::end_capture());
}

TEST_F(CudaCapture, LivesThroughMemoryThatComesAndGoes) {
  std::vector<std::byte> arena(kBytes);
  fake::begin_capture();
  {
    const auto there = DeviceBuffer::allocate(device_, kBytes);
    const auto pinned = PinnedBuffer::allocate(device_, kBytes);
    const auto locked =
        HostRegistration::create(device_, arena, HostRegistration::Access::read_only);
    ASSERT_TRUE(there && pinned && locked);
    EXPECT_EQ(cuda::whereabouts(*driver_, memory_of(*there))->device, 0);
  }
  EXPECT_TRUE(fake::end_capture());
}

TEST_F(CudaCapture, LivesThroughCopiesAndEvents) {
  const std::vector<std::byte> bytes = noise(kBytes, 1);
  fake::begin_capture();
  {
    const auto there = DeviceBuffer::allocate(device_, kBytes).value();
    auto stream = Stream::create(device_).value();
    auto mark = Event::create(device_).value();
    ASSERT_TRUE(
        stream.copy(there.address(), reinterpret_cast<cuda::Address>(bytes.data()), kBytes));
    ASSERT_TRUE(mark.record(stream));
    ASSERT_TRUE(cuda::is_done(*device_, mark.raw()));
    ASSERT_TRUE(stream.synchronize());
    EXPECT_TRUE(mark.done().value());
    EXPECT_EQ(std::memcmp(memory_of(there), bytes.data(), kBytes), 0);
  }
  EXPECT_TRUE(fake::end_capture());
}

TEST_F(CudaCapture, LivesThroughStaging) {
  fake::begin_capture();
  {
    const auto cache = DeviceBuffer::allocate(device_, kBytes).value();
    const auto staging = cuda::Staging::create(device_, 2, kBytes).value();
    cuda::StagingSlot* const slot = staging->take();
    const std::vector<DevicePiece> pieces{{cache.address() + 8192, 4096}, {cache.address(), 4096}};
    const cuda::StagedBlock block{0, 8192};
    std::atomic<int> calls = 0;
    ASSERT_TRUE(slot->scatter(pieces, count, &calls));
    ASSERT_TRUE(slot->synchronize());
    ASSERT_TRUE(slot->gather(pieces, nullptr, count, &calls));
    ASSERT_TRUE(slot->synchronize());
    ASSERT_TRUE(slot->hash(pieces, {&block, 1}, count, &calls));
    ASSERT_TRUE(slot->synchronize());
    EXPECT_TRUE(slot->landed().value());
    EXPECT_EQ(calls, 3);
    staging->give_back(slot);
  }
  EXPECT_TRUE(fake::end_capture());
}

TEST_F(CudaCapture, FindsTheThreadsModeAsItWasAfterEverything) {
  EXPECT_EQ(mode(), CaptureMode::global);
  {
    const Device::Current current(*device_);
    EXPECT_EQ(mode(), CaptureMode::relaxed);
    EXPECT_TRUE(DeviceBuffer::allocate(device_, kBytes));
    EXPECT_EQ(mode(), CaptureMode::relaxed) << "the inner one gave back what it found";
  }
  EXPECT_EQ(mode(), CaptureMode::global);
  EXPECT_FALSE(Device::open(driver_, 7));
  EXPECT_EQ(mode(), CaptureMode::global);
}

}  // namespace
}  // namespace membrain::cuda_test
