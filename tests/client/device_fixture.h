// A client with a GPU (the fake driver's) in a scripted cluster, and a paged cache on that GPU.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "cache/client/device_transfer.h"
#include "tests/client/fake_cluster.h"
#include "tests/cuda/fake_driver.h"
#include "transport/cuda/kernel_image.h"

namespace membrain::client_test {

namespace fake = cuda::fake;

inline constexpr std::size_t kSlots = 2;
inline constexpr std::size_t kSlotBytes = 1 << 20;
inline constexpr std::size_t kCacheBytes = 24 << 20;
inline constexpr int kGpu = 0;

class DeviceTransfers : public ClientTest {
 protected:
  void SetUp() override {
    if (cuda::kernel_image().empty()) GTEST_SKIP() << "built without clang: no GPU kernels";
    gpu_ = cuda::Device::open(cuda::Driver::load(FAKE_CUDA).value(), kGpu).value();
    cache_.emplace(cuda::DeviceBuffer::allocate(gpu_, kCacheBytes).value());
    engine_.emplace(cuda::Stream::create(gpu_).value());
    devices_.push_back(DeviceLane::open(data_loop_, gpu_, kSlots, kSlotBytes).value());
    devices_.back()->go_straight(*data_);  // where the network takes that
    before_step_ = fake::settle;
    fill(0, content(kCacheBytes, 1));
    begin();
  }
  void TearDown() override {
    fake::pause(false);
    stop();
    core_.reset();
    engine_.reset();
    cache_.reset();
    gpu_.reset();
    fake::repair();
    EXPECT_EQ(fake::owned(), 0U) << "something was not given back to the driver";
  }

  [[nodiscard]] std::byte* at(std::size_t offset) const {
    return reinterpret_cast<std::byte*>(cache_->address()) + offset;
  }
  void fill(std::size_t offset, const std::vector<std::byte>& bytes) {
    std::memcpy(at(offset), bytes.data(), bytes.size());
  }
  [[nodiscard]] std::vector<std::byte> held(std::size_t offset, std::size_t size) const {
    return {at(offset), at(offset) + size};
  }
  static TransferOptions on_gpu(milliseconds timeout = {}, void* after = nullptr) {
    TransferOptions options;
    options.timeout = timeout;
    options.memory = {kGpu, after};
    return options;
  }
  /// `pieces` pieces of a block, each with as much room behind it.
  FetchItem paged(std::uint32_t block, std::size_t size, std::size_t pieces) {
    FetchItem item;
    item.block = block;
    for (std::size_t i = 0; i < pieces; ++i) {
      item.into.push_back({at(next_), size / pieces});
      next_ += 2 * (size / pieces);
    }
    return item;
  }
  [[nodiscard]] static std::vector<std::byte> bytes_of(const FetchItem& item) {
    std::vector<std::byte> bytes;
    for (const Piece& piece : item.into) {
      const auto* const data = static_cast<const std::byte*>(piece.data);
      bytes.insert(bytes.end(), data, data + piece.size);
    }
    return bytes;
  }
  static StoreItem block(unsigned number, const FetchItem& where) {
    StoreItem item;
    item.hash = hash_of(number);
    for (const Piece& piece : where.into) item.from.push_back({piece.data, piece.size});
    return item;
  }
  /// Publishes `count` blocks of `size` bytes on both nodes.
  Match published(unsigned count, std::size_t size) {
    std::vector<unsigned> numbers;
    for (unsigned number = 0; number < count; ++number) {
      numbers.push_back(number);
      expected_.push_back(publish(number, size, {&node1_}));
    }
    return lookup(numbers).value();
  }
  void launch(const Match& match, std::vector<FetchItem> items, TransferOptions options) {
    token_ = std::make_shared<CancelToken>();
    data_loop_.spawn(
        put_into(core_->fetch(match.state(), std::move(items), std::move(options), token_), end_));
  }
  void launch_store(std::vector<StoreItem> items, TransferOptions options) {
    token_ = std::make_shared<CancelToken>();
    data_loop_.spawn(
        put_into(core_->store(space_, std::move(items), std::move(options), token_), end_));
  }
  void settle() {
    step_until([&] { return end_.has_value(); });
  }

  std::shared_ptr<const cuda::Device> gpu_;
  std::optional<cuda::DeviceBuffer> cache_;
  std::optional<cuda::Stream> engine_;
  std::size_t next_ = 0;  ///< of the cache
  std::vector<std::vector<std::byte>> expected_;
  std::shared_ptr<CancelToken> token_;
  std::optional<Result<TransferReport>> end_;
};

}  // namespace membrain::client_test
