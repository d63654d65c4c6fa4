// The device's checksum is the host's.
#include "transport/cuda/checksum.h"

#include <gtest/gtest.h>

#include "base/checksum.h"
#include "tests/cuda/gpu_fixture.h"

namespace membrain::cuda_test {
namespace {

using cuda::DeviceBuffer;
using cuda::DeviceBytes;
using cuda::DeviceHasher;
using cuda::Stream;

constexpr std::uint64_t kRoom = 8 << 20;

class CudaChecksum : public WithGpu {
 protected:
  void SetUp() override {
    WithGpu::SetUp();
    if (IsSkipped()) return;
    memory_ = std::make_unique<DeviceBuffer>(DeviceBuffer::allocate(device_, kRoom).value());
    hasher_ = std::make_unique<DeviceHasher>(DeviceHasher::create(device_, kRoom).value());
    stream_ = std::make_unique<Stream>(Stream::create(device_).value());
    const std::vector<std::byte> bytes = noise(kRoom, 1);
    std::memcpy(memory_of(*memory_), bytes.data(), bytes.size());
  }
  void TearDown() override {
    stream_.reset();
    hasher_.reset();
    memory_.reset();
    WithGpu::TearDown();
  }

  [[nodiscard]] DeviceBytes input(std::uint64_t at, std::uint64_t bytes) const {
    return {memory_->address() + at, bytes};
  }
  void expect_equal(const std::vector<DeviceBytes>& inputs) {
    ASSERT_TRUE(hasher_->start(*stream_, inputs));
    ASSERT_TRUE(stream_->synchronize());
    const std::vector<Checksum> sums = hasher_->finish();
    ASSERT_EQ(sums.size(), inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const auto* const bytes = reinterpret_cast<const std::byte*>(inputs[i].address);
      EXPECT_EQ(sums[i], checksum({bytes, inputs[i].bytes})) << inputs[i].bytes << " bytes";
    }
  }

  std::unique_ptr<DeviceBuffer> memory_;
  std::unique_ptr<DeviceHasher> hasher_;
  std::unique_ptr<Stream> stream_;
};

TEST_F(CudaChecksum, IsTheHostsForEveryLength) {
  for (std::uint64_t bytes = DeviceHasher::kMinBytes; bytes <= 3200; bytes += 97) {
    std::vector<DeviceBytes> inputs;
    for (std::uint64_t i = 0; i < 97; ++i) inputs.push_back(input(16 * i, bytes + i));
    expect_equal(inputs);
  }
}

TEST_F(CudaChecksum, IsTheHostsForLargeBlocksBesideSmallOnes) {
  expect_equal({input(0, 2 << 20), input(16, 300), input(4096, (2 << 20) - 1), input(0, 65536),
                input(32, 1 << 20), input(0, 1024), input(0, 1025)});
}

TEST_F(CudaChecksum, IsTheHostsAgainAfterAnotherCall) {
  expect_equal({input(0, 70000)});
  expect_equal({input(70016, 513), input(0, 2049)});
  expect_equal({});
}

TEST_F(CudaChecksum, RefusesWhatItCannotHash) {
  const auto refused = [&](const std::vector<DeviceBytes>& inputs) {
    const Result<> started = hasher_->start(*stream_, inputs);
    return !started && started.error().code == Errc::invalid_argument;
  };
  EXPECT_TRUE(refused({input(0, 240)}));
  EXPECT_TRUE(refused({input(8, 4096)}));
  EXPECT_TRUE(refused(std::vector(DeviceHasher::kMaxInputs + 1, input(0, 1024))));
  EXPECT_TRUE(refused(std::vector(DeviceHasher::kMaxInputs, input(0, 1 << 20))));
}

}  // namespace
}  // namespace membrain::cuda_test
