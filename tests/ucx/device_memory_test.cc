// When UCX may be trusted with GPUs' memory, by what it prints and what sysfs says.
#include "transport/ucx/device_memory.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "tests/ucx/party.h"

namespace membrain::ucx_test {
namespace {

constexpr DeviceSupport kNothing = {};
constexpr DeviceSupport kCuda = {.cuda = true, .nics = false};
constexpr DeviceSupport kBoth = {.cuda = true, .nics = true};

/// As UCX 1.13 prints an endpoint.
std::string endpoint(const std::vector<std::string>& lanes) {
  std::string text = "#\n# UCP endpoint \n#\n#               peer: <no debug data>\n";
  for (const std::string& lane : lanes) text += "#                 lane[1]:  " + lane + "\n";
  return text +
         "#\n#                 am_send: 0..<egr/short>..93..<egr/bcopy>..8256..<rndv>..(inf)\n";
}
const std::string kPosix = "4:posix/memory.0 md[3]          -> md[3]/posix/sysdev[255] am";
const std::string kCma = "5:cma/memory.0 md[4]            -> md[4]/cma/sysdev[255] rma_bw";
const std::string kIpc = "7:cuda_ipc/cuda.0 md[6]         -> md[6]/cuda_ipc/sysdev[255] rma_bw";
const std::string kRc = "2:rc_mlx5/mlx5_0:1.0 md[1]      -> md[1]/ib/sysdev[1] rma_bw am";
const std::string kVerbs = "2:rc_verbs/rxe0:1.0 md[1]       -> md[1]/ib/sysdev[1] am";
const std::string kTcp = "1:tcp/eth0.0 md[0]              -> md[0]/tcp/sysdev[255] am rma_bw";

TEST(DeviceMemory, GoesWhereTheReceiverReads) {
  using enum DevicePayloads;
  EXPECT_EQ(device_payloads_of(kBoth, endpoint({kRc})), any);
  EXPECT_EQ(device_payloads_of(kBoth, endpoint({kPosix, kCma, kIpc, kRc})), any);
  EXPECT_EQ(device_payloads_of(kCuda, endpoint({kPosix, kCma, kIpc})), between_devices);
  EXPECT_EQ(device_payloads_of(kCuda, endpoint({kIpc, kRc})), between_devices)
      << "the card does not reach GPUs";
}

TEST(DeviceMemory, GoesNowhereElse) {
  using enum DevicePayloads;
  EXPECT_EQ(device_payloads_of(kNothing, endpoint({kIpc, kRc})), none) << "UCX without CUDA";
  EXPECT_EQ(device_payloads_of(kCuda, endpoint({kRc})), none);
  EXPECT_EQ(device_payloads_of(kBoth, endpoint({kPosix, kCma})), none);
  EXPECT_EQ(device_payloads_of(kBoth, endpoint({kTcp})), none);
  EXPECT_EQ(device_payloads_of(kBoth, endpoint({kVerbs})), none) << "not used to read";
  EXPECT_EQ(device_payloads_of(kBoth, ""), none);
  EXPECT_EQ(device_payloads_of(kBoth, "rma_bw :rc_mlx5/ lane"), none);
}

TEST(DeviceMemory, IsReachedByCardsWhereTheirDriverSaysSo) {
  namespace fs = std::filesystem;
  const fs::path sysfs = fs::temp_directory_path() / ("membrain-sysfs-" + std::to_string(getpid()));
  EXPECT_FALSE(nics_reach_gpus(sysfs, 1, 13));
  fs::create_directories(sysfs / "module/nvidia_peermem");
  std::ofstream(sysfs / "module/nvidia_peermem/version") << "550.54\n";
  EXPECT_FALSE(nics_reach_gpus(sysfs, 1, 13)) << "1.13 does not look there";
  EXPECT_TRUE(nics_reach_gpus(sysfs, 1, 14));
  EXPECT_TRUE(nics_reach_gpus(sysfs, 2, 0));
  fs::create_directories(sysfs / "kernel/mm/memory_peers/nv_mem");
  std::ofstream(sysfs / "kernel/mm/memory_peers/nv_mem/version") << "1.3\n";
  EXPECT_TRUE(nics_reach_gpus(sysfs, 1, 13));
  fs::remove_all(sysfs);
}

TEST(DeviceMemory, IsRefusedByAUcxThatKnowsNone) {
  const std::shared_ptr<UcxContext> context = make_context(tcp_lane(), "");
  if (context->devices().cuda) GTEST_SKIP() << "this UCX knows GPU memory";
  Pair pair{tcp_lane()};
  EXPECT_EQ(pair.a.fabric().device_payloads(pair.to_b), DevicePayloads::none);
  EXPECT_EQ(pair.a.fabric().device_payloads(PeerId{}), DevicePayloads::none);
  std::vector<std::byte> memory(4096);
  const auto region = pair.a.fabric().register_device_memory(memory);
  ASSERT_FALSE(region);
  EXPECT_EQ(region.error().code, Errc::unavailable);
}

/// Counts how deep inside it is.
class Counted final : public UcxSurroundings {
 public:
  void enter() noexcept override { ++entered, ++depth; }
  void leave() noexcept override { --depth; }
  int entered = 0;
  int depth = 0;
};

class Witness final : public Receiver {
 public:
  explicit Witness(const Counted& around) : around_(around) {}
  void on_message(PeerId, std::span<const std::byte>, Payload payload) override {
    ++messages;
    kept = std::move(payload);
    EXPECT_GT(around_.depth, 0) << "UCX works here, outside of its surroundings";
  }
  void on_lost(PeerId, const Error&) override {}
  int messages = 0;
  Payload kept;

 private:
  const Counted& around_;
};

TEST(DeviceMemory, HasItsSurroundingsWheneverUcxWorks) {
  const SteadyClock clock;
  Loop loop(clock);
  const auto around = std::make_shared<Counted>();
  Witness receiver(*around);
  UcxFabricConfig config;
  config.secret = kSecret;
  config.around = around;
  auto fabric = make_ucx_fabric(make_context(tcp_lane(), ""), loop, config).value();
  fabric->set_receiver(receiver);
  const Address address = fabric->listen("127.0.0.1:0").value();
  std::optional<Result<PeerId>> peer;
  loop.spawn(connect_into(*fabric, address, clock.now() + seconds(10), peer));
  const TimePoint until = clock.now() + seconds(20);
  const auto turn_until = [&](auto done) {
    while (!done() && clock.now() < until) {
      if (!loop.turn()) loop.wait(milliseconds(1));
      ASSERT_EQ(around->depth, 0);
    }
    ASSERT_TRUE(done());
  };
  turn_until([&] { return peer.has_value(); });
  ASSERT_TRUE(*peer);
  int before = around->entered;
  ASSERT_TRUE(fabric->send(**peer, as_bytes("hello")));
  EXPECT_EQ(around->entered, before + 1);
  turn_until([&] { return receiver.messages == 1; });
  before = around->entered;
  std::vector<std::byte> bytes = pattern(100'000, 1);
  const Segment segment = all_of(bytes);
  Completion sent(loop.ready());
  fabric->send(**peer, as_bytes("block"), {&segment, 1}, sent);
  EXPECT_EQ(around->entered, before + 1);
  turn_until([&] { return receiver.messages == 2; });
  before = around->entered;
  receiver.kept = Payload();
  EXPECT_EQ(around->entered, before + 1);
  turn_until([&] { return sent.done(); });
  while (loop.turn()) {
  }
  before = around->entered;
  loop.wait(milliseconds(1));  // before it sleeps, UCX is asked
  EXPECT_EQ(around->entered, before + 1);
  fabric.reset();
  EXPECT_EQ(around->depth, 0);
}

}  // namespace
}  // namespace membrain::ucx_test
