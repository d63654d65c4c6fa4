// Clients that keep their blocks on a GPU: a real server and node, over UCX and over the node's
// door, on this machine's GPU or on the fake driver (which CMake puts in the library path).
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/client/mapped_house.h"
#include "tools/free_port.h"
#include "transport/cuda/binder.h"
#include "transport/cuda/memory.h"
#include "transport/cuda/stream.h"

namespace membrain {
namespace {

using Threads = ClientConfig::Threads;

constexpr int kGpu = 0;
constexpr unsigned kBlocks = 40;
constexpr std::size_t kPlanes = 4;
constexpr std::size_t kPieceBytes = 48 * 1024;
constexpr std::size_t kPlaneBytes = 2 * kBlocks * kPieceBytes;
constexpr PieceMemory kOnGpu = {kGpu, nullptr};

/// A graph that an engine captures in CUDA's default mode: a call that could be unsafe spoils it,
/// on whichever thread it is made. Nothing is put into it.
class Capture {
 public:
  explicit Capture(const std::shared_ptr<const cuda::Device>& device)
      : device_(*device), stream_(cuda::Stream::create(device).value()) {
    void* const driver = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_NODELETE);
    cuda::Binder binder(driver);
    binder.bind(begin_, "cuStreamBeginCapture_v2");
    binder.bind(end_, "cuStreamEndCapture");
    binder.bind(destroy_, "cuGraphDestroy");
    ::dlclose(driver);
    EXPECT_EQ(binder.missing(), nullptr);
    const cuda::Device::Current current(device_);
    EXPECT_EQ(begin_(stream_.raw(), cuda::CaptureMode::global), cuda::kSuccess);
  }
  /// True if nothing has spoiled it. Once, on the same thread.
  [[nodiscard]] bool end() {
    const cuda::Device::Current current(device_);
    void* graph = nullptr;
    const cuda::Status ended = end_(stream_.raw(), &graph);
    if (graph != nullptr) destroy_(graph);
    return ended == cuda::kSuccess;
  }

 private:
  const cuda::Device& device_;
  cuda::Stream stream_;
  cuda::Status (*begin_)(cuda::RawStream stream, cuda::CaptureMode mode) = nullptr;
  cuda::Status (*end_)(cuda::RawStream stream, void** graph) = nullptr;
  cuda::Status (*destroy_)(void* graph) = nullptr;
};

class GpuClient : public MappedHouse {
 protected:
  void SetUp() override {
    const auto driver = cuda::Driver::load();
    if (!driver && std::getenv("MEMBRAIN_TEST_CUDA") == nullptr) {
      GTEST_SKIP() << driver.error().context;
    }
    ASSERT_TRUE(driver) << driver.error().context;
    auto device = cuda::Device::open(*driver, kGpu);
    ASSERT_TRUE(device) << device.error().context;
    device_ = *device;
    cache_.emplace(cuda::DeviceBuffer::allocate(device_, kPlanes * kPlaneBytes).value());
    stream_.emplace(cuda::Stream::create(device_).value());
  }

  std::unique_ptr<Client> gpu_client(bool mapped, const std::string& share_listen = {},
                                     bool pin_arenas = false) {
    ClientConfig config;
    config.pin_arenas = pin_arenas;
    config.server = server_->address();
    config.secret = kSecret;
    config.threads = GetParam();
    config.mapped = mapped;
    config.devices = {kGpu};
    config.share_listen = share_listen;
    auto client = Client::open(config);
    EXPECT_TRUE(client) << client.error().context;
    return std::move(*client);
  }
  /// A cache of two runs of kBlocks ids: blocks are stored from the first, and fetched into the
  /// second.
  [[nodiscard]] RegisteredLayout layout() const {
    Layout layout;
    layout.blocks = 2 * kBlocks;
    for (std::size_t plane = 0; plane < kPlanes; ++plane) {
      layout.planes.push_back({at(plane * kPlaneBytes), kPieceBytes, kPieceBytes});
    }
    return Client::register_layout(layout).value();
  }
  [[nodiscard]] void* at(std::size_t offset) const {
    return reinterpret_cast<void*>(cache_->address() + offset);
  }
  /// The whole cache, as it is on the GPU.
  [[nodiscard]] std::vector<std::byte> held() {
    std::vector<std::byte> bytes(cache_->size());
    EXPECT_TRUE(stream_->copy(reinterpret_cast<cuda::Address>(bytes.data()), cache_->address(),
                              bytes.size()));
    EXPECT_TRUE(stream_->synchronize());
    return bytes;
  }
  void fill(const std::vector<std::byte>& bytes) {
    ASSERT_TRUE(stream_->copy(cache_->address(), reinterpret_cast<cuda::Address>(bytes.data()),
                              bytes.size()));
    ASSERT_TRUE(stream_->synchronize());
  }
  /// What the cache holds when the second run is the first in reverse.
  static std::vector<std::byte> mirrored(std::vector<std::byte> bytes) {
    for (std::size_t plane = 0; plane < kPlanes; ++plane) {
      for (std::size_t block = 0; block < kBlocks; ++block) {
        const auto from = plane * kPlaneBytes + block * kPieceBytes;
        const auto to = plane * kPlaneBytes + (2 * kBlocks - 1 - block) * kPieceBytes;
        std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(from), kPieceBytes,
                    bytes.begin() + static_cast<std::ptrdiff_t>(to));
      }
    }
    return bytes;
  }
  static std::vector<BlockHash> hashes() {
    std::vector<BlockHash> hashes;
    for (unsigned number = 0; number < kBlocks; ++number) hashes.push_back(hash_of(number));
    return hashes;
  }
  static TransferOptions on_gpu(void* after = nullptr) {
    TransferOptions options;
    options.memory = {kGpu, after};
    return options;
  }
  /// Turns a client that has no threads of its own, until the handle goes.
  static std::jthread turn(Client& client) {
    return std::jthread([&client](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        if (!client.poll()) std::this_thread::yield();
      }
    });
  }
  /// Stores the first run, fetches it into the second.
  void there_and_back(bool mapped);

  std::shared_ptr<const cuda::Device> device_;
  std::optional<cuda::DeviceBuffer> cache_;
  std::optional<cuda::Stream> stream_;
};

void GpuClient::there_and_back(bool mapped) {
  const auto client = gpu_client(mapped);
  const OpenedNamespace space = open(*client);
  const std::vector<std::byte> bytes = content(kPlanes * kPlaneBytes, 5);
  fill(bytes);
  auto computed = cuda::Event::create(device_).value();
  ASSERT_TRUE(computed.record(*stream_));
  const RegisteredLayout cache = layout();
  const std::vector<BlockHash> names = hashes();
  LayoutStore blocks;
  blocks.hashes = names;
  const auto stored = client->store(space, cache, blocks, on_gpu(computed.raw()));
  ASSERT_TRUE(stored) << stored.error().context;
  ASSERT_EQ(stored->ok_count(), kBlocks);

  const Match match = client->lookup(space, names).value();
  std::vector<std::uint32_t> ids(kBlocks);
  for (std::uint32_t i = 0; i < kBlocks; ++i) ids[i] = 2 * kBlocks - 1 - i;
  LayoutFetch fetch;
  fetch.ids = ids;
  for (int round = 0; round < 3; ++round) {
    fill(bytes);
    const auto fetched = round == 0 ? client->fetch(match, cache, fetch, on_gpu(computed.raw()))
                                    : client->fetch_async(match, cache, fetch, on_gpu()).wait();
    ASSERT_TRUE(fetched) << fetched.error().context;
    ASSERT_EQ(fetched->ok_count(), kBlocks);
    EXPECT_EQ(fetched->bytes, kBlocks * kPlanes * kPieceBytes);
    EXPECT_EQ(fetched->lane_bytes.contains("mapped"), mapped);
    EXPECT_TRUE(held() == mirrored(bytes));
  }
}

TEST_P(GpuClient, BlocksGoFromPagesToANodeAndBack) {
  there_and_back(false);
}

TEST_P(GpuClient, BlocksGoFromPagesToAMappedNodeAndBack) {
  there_and_back(true);
}

/// A client is opened while the engine captures its graphs, stores, fetches, and is closed again.
TEST_P(GpuClient, NoGraphThatTheEngineCapturesMeanwhileIsSpoiled) {
  for (const bool mapped : {false, true}) {
    Capture capture(device_);
    there_and_back(mapped);
    EXPECT_TRUE(capture.end()) << (mapped ? "mapped" : "over the network");
  }
}

/// Once the arena is page-locked, which happens in the background, the GPU reads it by itself.
TEST_P(GpuClient, BlocksComeOutOfAPageLockedArenaWithoutTheHost) {
  const auto client = gpu_client(true, {}, true);
  const OpenedNamespace space = open(*client);
  const std::vector<std::byte> bytes = content(kPlanes * kPlaneBytes, 8);
  fill(bytes);
  const RegisteredLayout cache = layout();
  const std::vector<BlockHash> names = hashes();
  LayoutStore blocks;
  blocks.hashes = names;
  ASSERT_TRUE(client->store(space, cache, blocks, on_gpu()));
  const Match match = client->lookup(space, names).value();
  std::vector<std::uint32_t> ids(kBlocks);
  for (std::uint32_t i = 0; i < kBlocks; ++i) ids[i] = 2 * kBlocks - 1 - i;
  LayoutFetch fetch;
  fetch.ids = ids;
  std::uint64_t by_gpu = 0;
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (by_gpu == 0 && std::chrono::steady_clock::now() < patience) {
    fill(bytes);
    auto fetched = client->fetch(match, cache, fetch, on_gpu());
    ASSERT_TRUE(fetched) << fetched.error().context;
    ASSERT_EQ(fetched->ok_count(), kBlocks);
    EXPECT_TRUE(held() == mirrored(bytes));
    by_gpu = fetched->lane_bytes["mapped_gpu"];
  }
  EXPECT_EQ(by_gpu, kBlocks * kPlanes * kPieceBytes);
}

TEST_P(GpuClient, OffersAreTakenFromTheGpu) {
  const auto client = gpu_client(false);
  const OpenedNamespace space = open(*client);
  fill(content(kPlanes * kPlaneBytes, 6));
  const RegisteredLayout cache = layout();
  const std::vector<BlockHash> names = hashes();
  LayoutStore blocks;
  blocks.hashes = names;
  std::atomic<bool> ended = false;
  std::size_t kept = 0;
  const auto done = [&](const TransferReport& report) {
    kept = report.ok_count();
    ended = true;
  };
  ASSERT_TRUE(client->offer(space, cache, blocks, done, kOnGpu));
  while (!ended) client->poll();
  EXPECT_EQ(kept, kBlocks);
  PieceMemory other = kOnGpu;
  other.device = 63;
  const auto refused = client->offer(space, cache, blocks, {}, other);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::invalid_argument);
}

TEST_P(GpuClient, PeersFetchWhatOneShares) {
  const auto owner = gpu_client(false, "127.0.0.1:0");
  const auto peer = gpu_client(false);
  const OpenedNamespace space = open(*owner);
  open(*peer);
  const std::vector<std::byte> bytes = content(kPlanes * kPlaneBytes, 7);
  fill(bytes);
  const RegisteredLayout cache = layout();
  const std::vector<BlockHash> names = hashes();
  LayoutStore blocks;
  blocks.hashes = names;
  const auto shared = owner->share(space, cache, blocks, on_gpu());
  ASSERT_TRUE(shared) << shared.error().context;
  ASSERT_EQ(shared->ok_count(), kBlocks);

  auto turning = turn(*owner);
  Match match = peer->lookup(space, names).value();
  while (match.prefix_blocks() != kBlocks) match = peer->lookup(space, names).value();
  std::vector<std::uint32_t> ids(kBlocks);
  for (std::uint32_t i = 0; i < kBlocks; ++i) ids[i] = 2 * kBlocks - 1 - i;
  LayoutFetch fetch;
  fetch.ids = ids;
  const auto fetched = peer->fetch(match, cache, fetch, on_gpu());
  ASSERT_TRUE(fetched) << fetched.error().context;
  EXPECT_EQ(fetched->ok_count(), kBlocks);
  EXPECT_TRUE(held() == mirrored(bytes));
  turning = {};

  for (std::uint32_t i = 0; i < kBlocks; ++i) ids[i] = i;
  ASSERT_TRUE(owner->unshare(cache, ids));
  turning = turn(*owner);
  for (std::uint32_t i = 0; i < kBlocks; ++i) ids[i] = 2 * kBlocks - 1 - i;
  const auto refused = peer->fetch(match, cache, fetch, on_gpu());
  turning = {};
  ASSERT_TRUE(refused) << refused.error().context;
  EXPECT_EQ(refused->ok_count(), 0U);
  EXPECT_EQ(refused->items[0].why, Errc::stale);
}

TEST_P(GpuClient, SharesNothingUnlessToldWhere) {
  const auto client = gpu_client(false);
  const OpenedNamespace space = open(*client);
  const std::vector<BlockHash> names = hashes();
  LayoutStore blocks;
  blocks.hashes = names;
  const auto shared = client->share(space, layout(), blocks, on_gpu());
  ASSERT_FALSE(shared);
  EXPECT_EQ(shared.error().code, Errc::unavailable);
  EXPECT_TRUE(client->unshare(layout(), {}));
}

/// By NCCL on the fake GPU; on a real one NCCL does not take two members on the same, and the tree
/// brings them.
TEST_P(GpuClient, AGroupGetsTheRootsBlocksAtOnce) {
  constexpr std::uint32_t kMembers = 2;
  GroupConfig config;
  config.name = "gpus";
  config.nccl_device = kGpu;
  for (std::uint32_t rank = 0; rank < kMembers; ++rank) {
    config.members.push_back("127.0.0.1:" + std::to_string(free_port()));
  }
  std::vector<std::unique_ptr<Client>> clients;
  std::vector<Group> groups;
  for (config.rank = 0; config.rank < kMembers; ++config.rank) {
    clients.push_back(gpu_client(false));
    auto joined = clients.back()->join(config);
    ASSERT_TRUE(joined) << joined.error().context;
    groups.push_back(std::move(*joined));
  }
  const std::vector<std::byte> bytes = content(cache_->size(), 77);
  const std::vector<BlockHash> names = hashes();
  const char* const driver = std::getenv("MEMBRAIN_TEST_CUDA");
  const bool fake = driver != nullptr && std::string_view(driver) == "fake";
  for (int round = 0; round < 2; ++round) {
    fill(bytes);
    std::array<Result<TransferReport>, kMembers> reports;
    {
      std::vector<std::jthread> ranks;
      for (std::uint32_t rank = 0; rank < kMembers; ++rank) {
        ranks.emplace_back([&, rank] {
          std::vector<std::uint32_t> ids(kBlocks);
          for (std::uint32_t i = 0; i < kBlocks; ++i) ids[i] = rank == 0 ? i : 2 * kBlocks - 1 - i;
          Replication blocks;
          blocks.hashes = names;
          blocks.ids = ids;
          TransferOptions options = on_gpu();
          options.timeout = std::chrono::seconds(20);
          reports[rank] = clients[rank]->replicate_to(groups[rank], layout(), blocks, options);
        });
      }
    }
    for (const auto& report : reports) {
      ASSERT_TRUE(report) << report.error().context;
      EXPECT_EQ(report->ok_count(), kBlocks);
      const auto by_nccl = report->lane_bytes.find("nccl");
      EXPECT_TRUE(!fake || by_nccl != report->lane_bytes.end());
    }
    EXPECT_TRUE(held() == mirrored(bytes));
  }
}

TEST_P(GpuClient, AGroupNamesAGpuThatTheClientHas) {
  const auto client = gpu_client(false);
  GroupConfig config;
  config.name = "gpus";
  config.nccl_device = kGpu + 1;
  config.members = {"127.0.0.1:1", "127.0.0.1:2"};
  const auto joined = client->join(config);
  ASSERT_FALSE(joined);
  EXPECT_EQ(joined.error().code, Errc::invalid_argument);
}

TEST_P(GpuClient, SaysWhichGpuIsMissing) {
  ClientConfig config;
  config.server = server_->address();
  config.secret = kSecret;
  config.devices = {63};
  const auto client = Client::open(config);
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code, Errc::invalid_argument);
  config.devices.clear();
  config.pin_arenas = true;
  const auto pointless = Client::open(config);
  ASSERT_FALSE(pointless);
  EXPECT_EQ(pointless.error().code, Errc::invalid_argument);
}

INSTANTIATE_TEST_SUITE_P(Modes, GpuClient, testing::Values(Threads::own, Threads::caller),
                         [](const auto& mode) {
                           return mode.param == Threads::own ? "own" : "caller";
                         });

}  // namespace
}  // namespace membrain
