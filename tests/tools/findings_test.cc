// What the doctor makes of machines that are made up.
#include "tools/findings.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "tools/lane_probe.h"

namespace membrain {
namespace {

/// A laptop on which nothing is wrong.
MachineFacts laptop() {
  MachineFacts facts;
  facts.clock_source = "tsc";
  facts.numa_nodes = 1;
  facts.shared_huge_pages = "advise";
  facts.shared_memory_bytes = std::uint64_t{8} << 30;
  facts.ptrace_scope = 0;
  facts.host_pids = true;
  facts.ucx_version = "1.13.1";
  facts.ucx_transports = {"tcp/lo", "posix/memory"};
  facts.cuda_reason = "no libcuda.so.1";
  return facts;
}

verbs::RdmaDevice nic(const std::string& name, const std::string& state) {
  verbs::RdmaDevice device;
  device.name = name;
  device.pci = {"pci0000:10", "0000:10:01.0", "0000:11:00.0"};
  verbs::Port port;
  port.state = state;
  port.gbps = 400;
  port.link = verbs::Port::Link::infiniband;
  device.ports.push_back(port);
  return device;
}

/// A host with a GPU and a card, on which nothing is wrong.
MachineFacts gpu_host() {
  MachineFacts facts = laptop();
  facts.hardware.devices.push_back(nic("mlx5_0", "ACTIVE"));
  verbs::Gpu gpu;
  gpu.pci = "0000:12:00.0";
  gpu.path = {"pci0000:10", "0000:10:01.0", "0000:12:00.0"};
  facts.hardware.gpus.push_back(gpu);
  facts.hardware.gpu_direct.peermem = true;
  facts.may_open_rdma = true;
  facts.cuda_reason.clear();
  facts.cuda_version = 12040;
  facts.gpus.emplace_back().name = "a GPU";
  facts.ucx_cuda = true;
  facts.ucx_gpu_direct = true;
  facts.ucx_transports = {"tcp/lo", "rc_mlx5/mlx5_0:1", "cuda_ipc/cuda"};
  return facts;
}

std::optional<Finding> found(const MachineFacts& facts, const std::string& id, Health health) {
  const std::vector<Finding> all = examine(facts);
  const auto at = std::ranges::find_if(
      all, [&](const Finding& finding) { return finding.id == id && finding.health == health; });
  return at == all.end() ? std::nullopt : std::optional(*at);
}

void expect_all_well(const MachineFacts& facts) {
  for (const Finding& finding : examine(facts)) {
    EXPECT_EQ(finding.health, Health::ok) << finding.id << ": " << finding.text;
    EXPECT_EQ(finding.cure, "") << finding.id;
  }
}

TEST(Findings, NothingIsWrongWithALaptop) {
  expect_all_well(laptop());
  EXPECT_EQ(worst(examine(laptop())), Health::ok);
}

TEST(Findings, NothingIsWrongWithAGoodHost) {
  expect_all_well(gpu_host());
  const auto affinity = found(gpu_host(), "affinity", Health::ok);
  ASSERT_TRUE(affinity);
  EXPECT_NE(affinity->text.find("UCX_NET_DEVICES=mlx5_0:1"), std::string::npos);
}

TEST(Findings, SayWhetherGroupsHaveNccl) {
  EXPECT_FALSE(found(laptop(), "nccl", Health::ok)) << "nobody asks where there is no GPU";
  MachineFacts facts = gpu_host();
  facts.nccl_reason = "no NCCL on this machine";
  EXPECT_NE(found(facts, "nccl", Health::ok)->text.find("no NCCL"), std::string::npos);
  facts.nccl_version = 22809;
  EXPECT_NE(found(facts, "nccl", Health::ok)->text.find("NCCL 2.28.9"), std::string::npos);
}

TEST(Findings, SayHowGpuMemoryTravels) {
  EXPECT_NE(found(gpu_host(), "gpu-ucx", Health::ok)->text.find("and by RDMA"), std::string::npos);
  MachineFacts facts = gpu_host();
  facts.ucx_gpu_direct = false;
  EXPECT_NE(found(facts, "gpu-ucx", Health::ok)->text.find("through pinned"), std::string::npos);
  EXPECT_FALSE(found(laptop(), "gpu-ucx", Health::warn)) << "there is no GPU";
}

TEST(Findings, SayWhatAGpuLetsOthersDoWithItsMemoryAndWithTheirs) {
  MachineFacts facts = gpu_host();
  cuda::DeviceFacts& gpu = facts.gpus[0];
  const auto text = [&facts] { return found(facts, "gpu", Health::ok)->text; };
  EXPECT_NE(text().find("lends its memory to nobody"), std::string::npos);
  EXPECT_NE(text().find("stores in place"), std::string::npos);
  gpu.dma_buf = gpu.gpu_direct_rdma = gpu.read_only_registration = true;
  EXPECT_NE(text().find("dmabuf and nvidia_peermem"), std::string::npos);
  EXPECT_EQ(text().find("stores in place"), std::string::npos);
}

/// That they could is not enough.
TEST(Findings, NetworkCardsReachNoGpuMemoryByAUcxThatKnowsNone) {
  MachineFacts facts = gpu_host();
  facts.ucx_cuda = facts.ucx_gpu_direct = false;
  const auto finding = found(facts, "gpu-direct", Health::warn);
  ASSERT_TRUE(finding);
  EXPECT_NE(finding->cure.find("gpu-ucx"), std::string::npos);
}

TEST(Findings, ADriverThatDoesNotStartKeepsItsNameOfThatAndHasACureOfItsOwn) {
  MachineFacts facts = gpu_host();
  facts.cuda_version = 0;
  facts.gpus.clear();
  facts.cuda_status = cuda::kSystemNotReady;
  facts.cuda_reason = "CUDA_ERROR_SYSTEM_NOT_READY";
  auto finding = found(facts, "cuda", Health::warn);
  ASSERT_TRUE(finding);
  EXPECT_NE(finding->text.find("CUDA_ERROR_SYSTEM_NOT_READY"), std::string::npos);
  EXPECT_NE(finding->cure.find("systemctl start nvidia-fabricmanager"), std::string::npos);
  facts.cuda_status = cuda::kSystemDriverMismatch;
  facts.hardware.gpus.clear();  // none is seen on the bus: in a container, say
  finding = found(facts, "cuda", Health::warn);
  ASSERT_TRUE(finding);
  EXPECT_NE(finding->cure.find("reboot"), std::string::npos);
  facts.cuda_status = 999;
  EXPECT_NE(found(facts, "cuda", Health::warn)->cure, "");
}

TEST(Findings, WhatIsWrongHasACure) {
  struct Case {
    const char* id;
    Health health;
    void (*spoil)(MachineFacts&);
  };
  const Case cases[] = {
      {"ucx", Health::fail, [](MachineFacts& f) { f.ucx_reason = "ucp_init"; }},
      {"ucx-environment", Health::warn,
       [](MachineFacts& f) { f.ucx_environment["UCX_TLS"] = "tcp"; }},
      {"cuda", Health::warn,
       [](MachineFacts& f) {
         f.cuda_version = 0;
         f.gpus.clear();
         f.cuda_reason = "no libcuda.so.1";
       }},
      {"rdma-port", Health::warn,
       [](MachineFacts& f) { f.hardware.devices.push_back(nic("mlx5_1", "DOWN")); }},
      {"rdma", Health::fail,
       [](MachineFacts& f) { f.hardware.devices[0].ports[0].state = "DOWN"; }},
      {"rdma", Health::fail, [](MachineFacts& f) { f.may_open_rdma = false; }},
      {"affinity", Health::warn,
       [](MachineFacts& f) { f.hardware.devices[0].ports[0].state = "DOWN"; }},
      {"gpu-direct", Health::warn, [](MachineFacts& f) { f.hardware.gpu_direct.peermem = false; }},
      {"gpu-direct", Health::warn, [](MachineFacts& f) { f.ucx_gpu_direct = false; }},
      {"gpu-ucx", Health::warn, [](MachineFacts& f) { f.ucx_cuda = f.ucx_gpu_direct = false; }},
      {"locked-memory", Health::warn, [](MachineFacts& f) { f.locked_memory_bytes = 8 << 20; }},
      {"shared-memory", Health::warn, [](MachineFacts& f) { f.shared_memory_bytes = 64 << 20; }},
      {"shared-memory", Health::warn, [](MachineFacts& f) { f.shared_memory_bytes.reset(); }},
      {"open-files", Health::warn, [](MachineFacts& f) { f.open_files = 1024; }},
      {"huge-pages", Health::warn, [](MachineFacts& f) { f.shared_huge_pages = "never"; }},
      {"ptrace", Health::warn, [](MachineFacts& f) { f.ptrace_scope = 1; }},
      {"pid-namespace", Health::warn, [](MachineFacts& f) { f.host_pids = false; }},
      {"clock", Health::warn, [](MachineFacts& f) { f.clock_source = "hpet"; }},
      {"numa", Health::warn,
       [](MachineFacts& f) {
         f.numa_nodes = 2;
         f.numa_balancing = true;
       }},
  };
  for (const Case& one : cases) {
    MachineFacts facts = gpu_host();
    one.spoil(facts);
    const auto finding = found(facts, one.id, one.health);
    ASSERT_TRUE(finding) << one.id;
    EXPECT_NE(finding->cure, "") << one.id;
    EXPECT_GE(worst(examine(facts)), one.health);
  }
}

TEST(Findings, WhatMattersOnlyWithHardwareIsNoTroubleWithoutIt) {
  MachineFacts facts = laptop();
  facts.locked_memory_bytes = 8 << 20;
  facts.numa_balancing = true;
  facts.ptrace_scope = 1;
  facts.may_trace = true;
  expect_all_well(facts);
  EXPECT_TRUE(found(facts, "locked-memory", Health::ok));
}

TEST(Findings, NobodyMayTraceAnybodyAtThree) {
  MachineFacts facts = laptop();
  facts.ptrace_scope = 3;
  facts.may_trace = true;
  EXPECT_TRUE(found(facts, "ptrace", Health::warn));
}

TEST(Findings, OfThisMachineCanBeMade) {
  EXPECT_FALSE(examine(observe_machine(false)).empty());
}

TEST(Lanes, ThatAMachineShouldHave) {
  EXPECT_EQ(lanes_of(laptop()), (std::vector<std::string>{"mapped", "shm", "tcp"}));
  EXPECT_EQ(lanes_of(gpu_host()), (std::vector<std::string>{"mapped", "shm", "tcp", "rdma", "gpu0",
                                                            "shm_gpu", "rdma_gpu"}));
  MachineFacts facts = gpu_host();
  facts.ucx_gpu_direct = false;
  EXPECT_EQ(lanes_of(facts).back(), "shm_gpu");
  facts.ucx_cuda = false;
  EXPECT_EQ(lanes_of(facts).back(), "gpu0");
}

TEST(Lanes, FiguresTravelAsALine) {
  LaneFigure figure;
  figure.lane = "rdma";
  figure.route = "rc_mlx5/mlx5_0:1";
  figure.bytes_per_second = 4.9e10;
  figure.roundtrip_us = 2.5;
  const auto back = figure_from_line(to_line(figure));
  ASSERT_TRUE(back);
  EXPECT_EQ(to_line(*back), to_line(figure));
  for (const char* line : {"", "{}", "[1]", "{\"lane\": 3}", "nonsense"}) {
    EXPECT_FALSE(figure_from_line(line)) << line;
  }
}

}  // namespace
}  // namespace membrain
