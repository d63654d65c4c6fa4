// Finding a driver and its devices, and saying what is wrong with them.
#include "transport/cuda/device.h"

#include <gtest/gtest.h>

#include "tests/cuda/gpu_fixture.h"

namespace membrain::cuda_test {
namespace {

using cuda::Device;
using cuda::Driver;
using cuda::HostRegistration;
using cuda::Whereabouts;
namespace fake = cuda::fake;

TEST(CudaDriver, IsUnavailableWhereThereIsNone) {
  const auto driver = Driver::load("libno-such-driver.so.1");
  ASSERT_FALSE(driver);
  EXPECT_EQ(driver.error().code, Errc::unavailable);
  EXPECT_TRUE(cuda::no_gpu(driver.error()));
}

TEST(CudaDriver, IsUnavailableIfItLacksAFunction) {
  const auto driver = Driver::load("libc.so.6");
  ASSERT_FALSE(driver);
  EXPECT_EQ(driver.error().code, Errc::unavailable);
  EXPECT_FALSE(cuda::no_gpu(driver.error())) << "there is one, and it does not work";
}

TEST(CudaDriver, IsUnavailableWithoutADevice) {
  fake::set_devices(0);
  const auto driver = Driver::load(FAKE_CUDA);
  fake::set_devices(2);
  ASSERT_FALSE(driver);
  EXPECT_EQ(driver.error().code, Errc::unavailable);
  EXPECT_TRUE(cuda::no_gpu(driver.error()));
}

TEST(CudaDriver, SaysThatItDoesNotStartAndGivesItsOwnNameOfThat) {
  fake::fail_call(0, cuda::kSystemDriverMismatch);
  const auto driver = Driver::load(FAKE_CUDA);
  fake::repair();
  ASSERT_FALSE(driver);
  EXPECT_EQ(driver.error().code, Errc::unavailable);
  EXPECT_EQ(driver.error().native, cuda::kSystemDriverMismatch);
  EXPECT_EQ(driver.error().context, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH");
  EXPECT_FALSE(cuda::no_gpu(driver.error()));
}

TEST(CudaDriver, KnowsItsVersionAndDevices) {
  const auto driver = Driver::load(FAKE_CUDA).value();
  EXPECT_EQ(driver->version(), 12040);
  EXPECT_EQ(driver->device_count(), 2);
  EXPECT_EQ(driver->name(cuda::kOutOfMemory), "CUDA_ERROR_OUT_OF_MEMORY");
}

TEST(CudaDriver, DescribesADeviceWithoutAContext) {
  const auto driver = Driver::load(FAKE_CUDA).value();
  const cuda::DeviceFacts facts = cuda::describe(*driver, 1).value();
  EXPECT_EQ(facts.name, "Fake GPU");
  EXPECT_EQ(facts.pci, "0000:9f:00.0");
  EXPECT_EQ(facts.compute, 90);
  EXPECT_EQ(facts.multiprocessors, 132);
  EXPECT_EQ(facts.memory_bytes, std::uint64_t{80} << 30);
  EXPECT_TRUE(facts.dma_buf);
  EXPECT_FALSE(facts.read_only_registration);
  EXPECT_FALSE(cuda::describe(*driver, 2));
  EXPECT_EQ(fake::owned(), 0u);
}

TEST(CudaKernels, AreOfALanguageThatEveryDriverWeTakeKnowsWhateverToolkitIsHere) {
  const std::string_view image = cuda::kernel_image();
  if (image.empty()) GTEST_SKIP() << "built without clang: no GPU kernels";
  EXPECT_NE(image.find("\n.version 7.0\n"), std::string_view::npos) << image.substr(0, 100);
}

class CudaDevice : public WithGpu {};

TEST_F(CudaDevice, ThatIsNotThereIsAnInvalidArgument) {
  const auto device = Device::open(driver_, 7);
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().code, Errc::invalid_argument);
}

TEST_F(CudaDevice, GivesEverythingBackWhicheverCallFails) {
  const std::size_t before = fake::owned();
  const std::uint64_t calls = fake::calls();
  ASSERT_TRUE(Device::open(driver_, 1));
  const std::uint64_t needed = fake::calls() - calls;
  ASSERT_GT(needed, 5u);
  int failed = 0;
  for (std::uint64_t call = 0; call < needed; ++call) {
    fake::fail_call(call, cuda::kOutOfMemory);
    if (!Device::open(driver_, 1)) ++failed;
    EXPECT_EQ(fake::owned(), before) << "call " << call;
  }
  EXPECT_GT(failed, 4);
}

TEST_F(CudaDevice, KnowsWhereMemoryIs) {
  const auto there = cuda::DeviceBuffer::allocate(device_, 1024).value();
  const auto pinned = cuda::PinnedBuffer::allocate(device_, 1024).value();
  const int here = 0;
  using Kind = Whereabouts::Kind;
  const Whereabouts of_there = cuda::whereabouts(*driver_, memory_of(there) + 1023).value();
  EXPECT_EQ(of_there.kind, Kind::device);
  EXPECT_EQ(of_there.device, 0);
  EXPECT_EQ(cuda::whereabouts(*driver_, pinned.bytes().data())->kind, Kind::host);
  EXPECT_EQ(cuda::whereabouts(*driver_, &here)->kind, Kind::host);
}

TEST_F(CudaDevice, RegistersReadOnlyMemoryOnlyIfItCan) {
  std::vector<std::byte> memory(4096);
  EXPECT_TRUE(HostRegistration::create(device_, memory, HostRegistration::Access::read_only));
  const auto other = Device::open(driver_, 1).value();
  const auto refused = HostRegistration::create(other, memory, HostRegistration::Access::read_only);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::unavailable);
  EXPECT_TRUE(HostRegistration::create(other, memory, HostRegistration::Access::read_write));
}

}  // namespace
}  // namespace membrain::cuda_test
