// A device of the fake driver, and what is checked after every test.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "tests/cuda/fake_driver.h"
#include "transport/cuda/device.h"
#include "transport/cuda/kernel_image.h"
#include "transport/cuda/memory.h"

namespace membrain::cuda_test {

class WithGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda::kernel_image().empty()) GTEST_SKIP() << "built without clang: no GPU kernels";
    driver_ = cuda::Driver::load(FAKE_CUDA).value();
    device_ = cuda::Device::open(driver_, 0).value();
  }
  void TearDown() override {
    cuda::fake::pause(false);
    device_.reset();
    cuda::fake::repair();
    EXPECT_EQ(cuda::fake::owned(), 0u) << "something was not given back to the driver";
  }

  std::shared_ptr<const cuda::Driver> driver_;
  std::shared_ptr<const cuda::Device> device_;
};

inline std::vector<std::byte> noise(std::size_t bytes, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> made(bytes + 8);
  for (std::size_t i = 0; i < bytes; i += 8) {
    const std::uint64_t word = random();
    std::memcpy(made.data() + i, &word, 8);
  }
  made.resize(bytes);
  return made;
}

/// The fake's device memory is ours too.
inline std::byte* memory_of(const cuda::DeviceBuffer& buffer) {
  return reinterpret_cast<std::byte*>(buffer.address());
}

}  // namespace membrain::cuda_test
