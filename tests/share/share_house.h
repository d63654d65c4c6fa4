// A simulated cluster with the real server: an engine that shares from a GPU (the fake driver's),
// and engines that fetch.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "cache/client/client_core.h"
#include "cache/share/sharer.h"
#include "server/shard_service.h"
#include "server/term.h"
#include "tests/cuda/fake_driver.h"
#include "tests/transport/await.h"
#include "transport/cuda/kernel_image.h"
#include "transport/sim_network.h"

namespace membrain::share_test {

using std::chrono::milliseconds;
using std::chrono::seconds;

namespace fake = cuda::fake;

inline constexpr int kGpu = 0;
inline constexpr std::uint32_t kIds = 16;  ///< blocks of the engine's cache
inline constexpr std::size_t kPlanes = 3;
inline constexpr std::size_t kPieceBytes = 6 * 1024;
inline constexpr std::size_t kBlockBytes = kPlanes * kPieceBytes;
inline constexpr std::size_t kSlots = 2;
inline constexpr std::size_t kSlotBytes = 64 * 1024;

/// What block `number` holds.
inline std::vector<std::byte> content(unsigned number) {
  std::vector<std::byte> bytes(kBlockBytes);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(i * 7 + i / 251 + number * 101);
  }
  return bytes;
}
inline BlockHash hash_of(unsigned number) {
  std::array<std::byte, 4> raw{};
  std::memcpy(raw.data(), &number, sizeof number);
  return BlockHash::from(raw).value();
}

using Lanes = std::vector<std::unique_ptr<DeviceLane>>;
inline Lanes lanes_on(Fabric& fabric, const std::shared_ptr<const cuda::Device>& gpu) {
  Lanes lanes;
  if (!gpu) return lanes;
  lanes.push_back(DeviceLane::open(fabric.loop(), gpu, kSlots, kSlotBytes).value());
  lanes.back()->go_straight(fabric);  // where the network takes that
  return lanes;
}

/// An engine's process: the client's core over simulated fabrics.
struct Engine {
  /// `gpu`: null for an engine without one.
  Engine(SimNetwork& network, ManualClock& clock, const std::string& process, bool verify,
         const std::shared_ptr<const cuda::Device>& gpu)
      : name(process),
        control_loop(clock),
        data_loop(clock),
        control(network.make_fabric(control_loop, name)),
        data(network.make_fabric(data_loop, name)),
        core(*control, *data, config(verify), {}, nullptr, lanes_on(*data, gpu)) {}

  static ClientConfig config(bool verify) {
    ClientConfig config;
    config.server = "server";
    config.verify_checksums = verify;
    config.default_timeout = milliseconds(1500);
    return config;
  }

  std::string name;
  Loop control_loop;
  Loop data_loop;
  std::unique_ptr<Fabric> control;
  std::unique_ptr<Fabric> data;
  ClientCore core;
};

class ShareHouse : public testing::Test {
 protected:
  explicit ShareHouse(std::uint64_t seed = 1, bool verify = true)
      : verify_(verify), network_(clock_, seed) {
    set_log_level(LogLevel::error);
  }

  void SetUp() override {
    if (cuda::kernel_image().empty()) GTEST_SKIP() << "built without clang: no GPU kernels";
    gpu_ = cuda::Device::open(cuda::Driver::load(FAKE_CUDA).value(), kGpu).value();
    cache_.emplace(cuda::DeviceBuffer::allocate(gpu_, 2 * kIds * kBlockBytes).value());
    std::memset(at(0), 0, cache_->size());
    start_server();
    share_control_ = network_.make_fabric(owner_control_loop_, "owner");
    share_data_ = network_.make_fabric(owner_data_loop_, "owner");
    SharerConfig config;
    config.server = "server";
    config.listen = "owner:share";
    sharer_ = std::make_unique<Sharer>(*share_control_, *share_data_, lanes_on(*share_data_, gpu_),
                                       config);
    ASSERT_TRUE(sharer_->start());
    owner_ = engine("owner", true, true);
    reader_ = engine("reader", verify_);
  }
  void TearDown() override {
    if (!sharer_) return;
    fake::pause(false);
    network_.set_faults({});
    network_.heal_partitions();
    for (const char* name : {"owner", "reader", "second"}) network_.resume(name);
    run(owner_control_loop_, sharer_->leave());
    for (auto* engine : {&owner_, &reader_, &second_}) {
      if (*engine) run((*engine)->control_loop, (*engine)->core.stop());
    }
    EXPECT_EQ(sharer_->table().place_count(), 0U);
    sharer_.reset(), owner_.reset(), reader_.reset(), second_.reset();
    stop_server();
    cache_.reset(), gpu_.reset();
    fake::repair();
    EXPECT_EQ(fake::owned(), 0U) << "something was not given back to the driver";
  }

  /// What the network does with GPUs' memory.
  void allow(DevicePayloads payloads) {
    SimDevices devices;
    devices.payloads = payloads;
    devices.is_device = [](const std::byte* at) { return fake::is_device(at); };
    network_.set_devices(std::move(devices));
  }

  // ---- processes

  void start_server() {
    server_fabric_ = network_.make_fabric(server_loop_, "server");
    ShardConfig config;
    config.session_ttl = config.node_ttl = milliseconds(900);
    config.expected_blocks = 64;
    server_ = std::make_unique<ShardService>(*server_fabric_, config);
    ASSERT_TRUE(server_->listen("server"));
    server_->lead(tenure_.next_term(), tenure_);
  }
  void stop_server() {
    run(server_loop_, server_->stop());
    server_.reset();
    server_fabric_.reset();
  }
  std::unique_ptr<Engine> engine(const std::string& name, bool verify, bool gpu = false) {
    auto made = std::make_unique<Engine>(network_, clock_, name, verify, gpu ? gpu_ : nullptr);
    EXPECT_TRUE(await(made->control_loop, made->core.start()));
    Namespace space;
    space.model = "a model";
    space_ = await(made->control_loop, made->core.open_namespace(space)).value();
    return made;
  }

  // ---- the engine's cache

  [[nodiscard]] std::byte* at(std::size_t offset) const {
    return reinterpret_cast<std::byte*>(cache_->address()) + offset;
  }
  [[nodiscard]] RegisteredLayout layout() {
    if (!layout_) {
      Layout layout;
      layout.blocks = kIds;
      for (std::size_t plane = 0; plane < kPlanes; ++plane) {
        layout.planes.push_back({at(plane * 2 * kIds * kPieceBytes), 2 * kPieceBytes, kPieceBytes});
      }
      layout_ = LayoutGeometry::check(layout).value();
    }
    return RegisteredLayout(layout_);
  }
  /// Block `number` into the engine's block `id`.
  void write(std::uint32_t id, unsigned number) {
    const std::vector<std::byte> bytes = content(number);
    for (std::size_t plane = 0; plane < kPlanes; ++plane) {
      std::memcpy(at(plane * 2 * kIds * kPieceBytes + id * 2 * kPieceBytes),
                  bytes.data() + plane * kPieceBytes, kPieceBytes);
    }
  }
  Task<Result<TransferReport>> sharing(std::uint32_t id, unsigned number) {
    const std::array hashes = {hash_of(number)};
    const std::array ids = {id};
    LayoutStore blocks;
    blocks.hashes = hashes;
    blocks.ids = ids;
    TransferOptions options;
    options.memory.device = kGpu;
    return owner_->core.share(
        space_, StoreList::of(layout(), blocks).value(), options, nullptr,
        [this](SharedBlock block) { return sharer_->share(std::move(block)); });
  }
  /// Writes and shares it; true if it is shared now.
  bool share(std::uint32_t id, unsigned number) {
    write(id, number);
    const auto report = await(owner_->data_loop, sharing(id, number));
    EXPECT_TRUE(report) << report.error().context;
    return report && report->ok_count() == 1;
  }
  void unshare(std::uint32_t id) {
    run(owner_data_loop_, sharer_->unshare(layout().geometry(), {id}));
  }

  // ---- those that fetch

  Result<Match> lookup(Engine& engine, std::vector<unsigned> numbers) {
    std::vector<BlockHash> hashes;
    for (const unsigned number : numbers) hashes.push_back(hash_of(number));
    LookupOptions options;
    options.rule = LookupOptions::Rule::all;
    return await(engine.control_loop, engine.core.lookup(space_, std::move(hashes), options));
  }
  /// Waits until the server knows all of them.
  Match found(Engine& engine, std::vector<unsigned> numbers) {
    for (int i = 0; i < 1000; ++i) {
      Result<Match> match = lookup(engine, numbers);
      bool all = match.has_value();
      for (std::size_t block = 0; all && block < numbers.size(); ++block) all = match->has(block);
      if (all) return std::move(*match);
      run_for(milliseconds(5));
    }
    ADD_FAILURE() << "the server does not know them";
    return {};
  }
  static std::vector<FetchItem> into(std::vector<std::vector<std::byte>>& places) {
    std::vector<FetchItem> items;
    for (std::vector<std::byte>& place : places) {
      place.assign(kBlockBytes, std::byte{0xcd});
      FetchItem item;
      item.block = static_cast<std::uint32_t>(items.size());
      item.into = {{place.data(), place.size()}};
      items.push_back(std::move(item));
    }
    return items;
  }
  /// Where engine's block `id` ends the room behind it begins: the readers' blocks.
  [[nodiscard]] FetchItem paged_into(std::uint32_t block, std::uint32_t id) const {
    FetchItem item;
    item.block = block;
    for (std::size_t plane = 0; plane < kPlanes; ++plane) {
      std::byte* const data =
          at(plane * 2 * kIds * kPieceBytes + id * 2 * kPieceBytes + kPieceBytes);
      item.into.push_back({data, kPieceBytes});
    }
    return item;
  }
  static std::vector<std::byte> bytes_of(const FetchItem& item) {
    std::vector<std::byte> bytes;
    for (const Piece& piece : item.into) {
      const auto* const data = static_cast<const std::byte*>(piece.data);
      bytes.insert(bytes.end(), data, data + piece.size);
    }
    return bytes;
  }
  static TransferOptions into_gpu() {
    TransferOptions options;
    options.memory.device = kGpu;
    return options;
  }
  Result<TransferReport> fetch_into_gpu(Engine& engine, const Match& match,
                                        const std::vector<FetchItem>& items) {
    return await(engine.data_loop, engine.core.fetch(match.state(), items, into_gpu(),
                                                     std::make_shared<CancelToken>()));
  }
  Result<TransferReport> fetch(Engine& engine, const Match& match,
                               std::vector<std::vector<std::byte>>& places) {
    return await(engine.data_loop, engine.core.fetch(match.state(), into(places), {},
                                                     std::make_shared<CancelToken>()));
  }

  // ---- turning

  static Task<Result<>> finished(Task<> work) {
    co_await work;
    co_return Result<>{};
  }
  void step() {
    fake::settle();
    network_.step();
  }
  template <class Condition>
  void step_until(Condition condition) {
    for (int i = 0; i < 400'000 && !condition(); ++i) step();
    ASSERT_TRUE(condition()) << "it does not come to that";
  }
  void run_for(Duration time) {
    const TimePoint until = clock_.now() + time;
    step_until([&] { return clock_.now() >= until; });
  }
  /// Runs `work` to its end.
  void run(Loop& loop, Task<> work) { EXPECT_TRUE(await(loop, finished(std::move(work)))); }
  template <class T>
  T await(Loop& loop, Task<T> task) {
    std::optional<T> result;
    loop.spawn(put_into(std::move(task), result));
    step_until([&] { return result.has_value(); });
    return std::move(*result);
  }

  const bool verify_;  ///< the reader compares checksums
  ManualClock clock_;
  SimNetwork network_;
  LoneTenure tenure_;
  Loop server_loop_{clock_};
  std::unique_ptr<Fabric> server_fabric_;
  std::unique_ptr<ShardService> server_;
  std::shared_ptr<const cuda::Device> gpu_;
  std::optional<cuda::DeviceBuffer> cache_;
  std::shared_ptr<const LayoutGeometry> layout_;
  Loop owner_control_loop_{clock_};
  Loop owner_data_loop_{clock_};
  std::unique_ptr<Fabric> share_control_;
  std::unique_ptr<Fabric> share_data_;
  std::unique_ptr<Sharer> sharer_;
  std::unique_ptr<Engine> owner_;
  std::unique_ptr<Engine> reader_;
  std::unique_ptr<Engine> second_;
  OpenedNamespace space_;
};

}  // namespace membrain::share_test
