// Blocks to and from a GPU, and their checksums there: on this machine's driver, or on the one that
// MEMBRAIN_TEST_CUDA names.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "base/checksum.h"
#include "transport/cuda/checksum.h"
#include "transport/cuda/staging.h"

namespace membrain::cuda_test {
namespace {

using cuda::Address;
using cuda::DeviceBuffer;
using cuda::DeviceBytes;
using cuda::DeviceHasher;
using cuda::DevicePiece;
using cuda::StagingSlot;

constexpr std::size_t kSlotBytes = 8 << 20;
constexpr std::size_t kCacheBytes = 2 * kSlotBytes;

class Gpu : public testing::Test {
 protected:
  void SetUp() override {
    const char* const named = std::getenv("MEMBRAIN_TEST_CUDA");
    auto driver = cuda::Driver::load(named != nullptr ? named : "libcuda.so.1");
    if (!driver && named == nullptr) GTEST_SKIP() << driver.error().context;
    ASSERT_TRUE(driver) << driver.error().context;
    auto device = cuda::Device::open(*driver, 0);
    ASSERT_TRUE(device) << device.error().context << " " << device.error().native;
    device_ = *device;
    cache_ = std::make_unique<DeviceBuffer>(DeviceBuffer::allocate(device_, kCacheBytes).value());
    slot_ = StagingSlot::create(device_, kSlotBytes).value();
  }

  static std::vector<std::byte> noise(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::vector<std::byte> bytes(kSlotBytes);
    for (std::size_t i = 0; i < bytes.size(); i += 8) {
      const std::uint64_t word = random();
      std::memcpy(bytes.data() + i, &word, 8);
    }
    return bytes;
  }
  /// Pieces of `bytes` that fill a slot, in any order, with as much between them.
  [[nodiscard]] std::vector<DevicePiece> pieces(std::uint64_t bytes, std::uint64_t seed) const {
    std::vector<DevicePiece> made;
    const std::uint64_t most = std::min<std::uint64_t>(kSlotBytes / bytes, 4096);
    for (std::uint64_t i = 0; i < most; ++i) {
      made.push_back({cache_->address() + 2 * i * bytes, bytes});
    }
    std::ranges::shuffle(made, std::mt19937_64(seed));
    return made;
  }
  static void nothing(void*) {}

  std::shared_ptr<const cuda::Device> device_;
  std::unique_ptr<DeviceBuffer> cache_;
  std::unique_ptr<StagingSlot> slot_;
};

TEST_F(Gpu, KeepsWhatWasScatteredToIt) {
  for (const std::uint64_t bytes : {16U, 4096U, 4112U, 32768U, 65536U, 262144U}) {
    const std::vector<DevicePiece> to = pieces(bytes, bytes);
    const std::size_t total = to.size() * bytes;
    const std::vector<std::byte> sent = noise(bytes);
    std::memcpy(slot_->host().data(), sent.data(), total);
    ASSERT_TRUE(slot_->scatter(to, nothing, nullptr));
    ASSERT_TRUE(slot_->synchronize());
    std::memset(slot_->host().data(), 0, total);
    ASSERT_TRUE(slot_->gather(to, nullptr, nothing, nullptr));
    ASSERT_TRUE(slot_->synchronize());
    ASSERT_TRUE(slot_->landed().value());
    EXPECT_EQ(std::memcmp(slot_->host().data(), sent.data(), total), 0) << bytes << " bytes";
  }
}

TEST_F(Gpu, KeepsPiecesThatAreAlignedToNothing) {
  const std::vector<DevicePiece> to{{cache_->address() + 1, 4099},
                                    {cache_->address() + 9001, 33},
                                    {cache_->address() + 20003, 70001}};
  const std::vector<std::byte> sent = noise(3);
  std::memcpy(slot_->host().data(), sent.data(), 4099 + 33 + 70001);
  ASSERT_TRUE(slot_->scatter(to, nothing, nullptr));
  ASSERT_TRUE(slot_->synchronize());
  std::memset(slot_->host().data(), 0, kSlotBytes);
  ASSERT_TRUE(slot_->gather(to, nullptr, nothing, nullptr));
  ASSERT_TRUE(slot_->synchronize());
  EXPECT_EQ(std::memcmp(slot_->host().data(), sent.data(), 4099 + 33 + 70001), 0);
}

TEST_F(Gpu, HashesLikeTheHost) {
  const std::vector<std::byte> bytes = noise(4);
  std::memcpy(slot_->host().data(), bytes.data(), bytes.size());
  const DevicePiece all{cache_->address(), bytes.size()};
  ASSERT_TRUE(slot_->scatter({&all, 1}, nothing, nullptr));
  ASSERT_TRUE(slot_->synchronize());
  DeviceHasher hasher = DeviceHasher::create(device_, 4 * kSlotBytes).value();
  cuda::Stream stream = cuda::Stream::create(device_).value();
  std::vector<std::uint64_t> lengths{65536, 1 << 20, 2 << 20, (2 << 20) - 1, bytes.size()};
  for (std::uint64_t length = DeviceHasher::kMinBytes; length < 2400; ++length) {
    lengths.push_back(length);
  }
  std::vector<DeviceBytes> inputs;
  for (const std::uint64_t length : lengths) inputs.push_back({cache_->address(), length});
  ASSERT_TRUE(hasher.start(stream, inputs));
  ASSERT_TRUE(stream.synchronize());
  const std::vector<Checksum> sums = hasher.finish();
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    EXPECT_EQ(sums[i], checksum(std::span(bytes).first(lengths[i]))) << lengths[i] << " bytes";
  }
}

TEST_F(Gpu, PullsBlocksOutOfAnArenaAndHashesThem) {
  std::vector<std::byte> arena = noise(6);
  const auto locked =
      cuda::HostRegistration::create(device_, arena, cuda::HostRegistration::Access::read_write);
  ASSERT_TRUE(locked) << locked.error().context;
  constexpr std::uint64_t kPiece = 4096;
  for (const std::uint64_t block : {kPiece, 16 * kPiece, kPiece * 3 + 16}) {
    const std::vector<DevicePiece> to = pieces(kPiece, block);
    const std::uint64_t blocks = to.size() * kPiece / block;
    std::vector<cuda::HostRun> runs;
    std::vector<cuda::StagedBlock> staged;
    for (std::uint64_t i = 0; i < blocks; ++i) {  // from the last on
      const auto* const from = &arena[(blocks - 1 - i) * block];
      runs.push_back({reinterpret_cast<Address>(from), block, i * block});
      staged.push_back({i * block, block});
    }
    ASSERT_TRUE(slot_->pull(runs, true, nothing, nullptr));
    ASSERT_TRUE(slot_->synchronize());
    const std::vector<Checksum> pulled = slot_->sums();
    ASSERT_TRUE(slot_->spread(to, nothing, nullptr));
    ASSERT_TRUE(slot_->synchronize());
    ASSERT_TRUE(slot_->hash(to, staged, nothing, nullptr));
    ASSERT_TRUE(slot_->synchronize());
    EXPECT_EQ(slot_->sums(), pulled) << "what went into the pages";
    for (std::uint64_t i = 0; i < blocks; ++i) {
      const auto sealed = std::span(arena).subspan((blocks - 1 - i) * block, block);
      EXPECT_EQ(pulled[i], checksum(sealed)) << block << " bytes, block " << i;
    }
  }
}

TEST_F(Gpu, PullsNoMoreThanASlotHas) {
  const Address host = reinterpret_cast<Address>(slot_->host().data());
  const auto refused = [this](const cuda::HostRun& run) {
    const Result<> queued = slot_->pull({&run, 1}, true, nothing, nullptr);
    return !queued && queued.error().code == Errc::invalid_argument;
  };
  EXPECT_TRUE(refused({host, kSlotBytes + 16, 0}));
  EXPECT_TRUE(refused({host, 4096, kSlotBytes - 4080}));
  EXPECT_TRUE(refused({host, 4096, ~std::uint64_t{0} - 4000}));
  EXPECT_TRUE(refused({host, 240, 0})) << "too short to be hashed";
  EXPECT_TRUE(refused({host, 4096, 8})) << "not where the hasher wants it";
  EXPECT_EQ(slot_->pull({}, true, nothing, nullptr).error().code, Errc::invalid_argument);
}

TEST_F(Gpu, KnowsItsOwnMemory) {
  const auto* const there = reinterpret_cast<const void*>(cache_->address() + 5);
  const cuda::Whereabouts found = cuda::whereabouts(device_->driver(), there).value();
  EXPECT_EQ(found.kind, cuda::Whereabouts::Kind::device);
  EXPECT_EQ(found.device, 0);
  const auto* const pinned = slot_->host().data();
  EXPECT_EQ(cuda::whereabouts(device_->driver(), pinned)->kind, cuda::Whereabouts::Kind::host);
}

TEST_F(Gpu, ReadsFromMemoryThatWasRegistered) {
  std::vector<std::byte> bytes = noise(5);
  const auto registered =
      cuda::HostRegistration::create(device_, bytes, cuda::HostRegistration::Access::read_write);
  ASSERT_TRUE(registered) << registered.error().context;
  cuda::Stream stream = cuda::Stream::create(device_).value();
  ASSERT_TRUE(
      stream.copy(cache_->address(), reinterpret_cast<Address>(bytes.data()), bytes.size()));
  ASSERT_TRUE(stream.copy(reinterpret_cast<Address>(slot_->host().data()), cache_->address(),
                          bytes.size()));
  ASSERT_TRUE(stream.synchronize());
  EXPECT_EQ(std::memcmp(slot_->host().data(), bytes.data(), bytes.size()), 0);
}

}  // namespace
}  // namespace membrain::cuda_test
