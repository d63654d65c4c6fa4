// What sysfs says of RDMA devices and GPUs, and what it may say without harm.
#include "transport/verbs/inventory.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/verbs/fake_sysfs.h"
#include "transport/verbs/sysfs.h"

namespace membrain::verbs_test {
namespace {

namespace fs = std::filesystem;
using verbs::Inventory;
using verbs::Port;

class Sysfs : public testing::Test {
 protected:
  [[nodiscard]] Inventory take() const {
    return verbs::take_inventory(sysfs_.sys(), sysfs_.proc());
  }
  FakeSysfs sysfs_;
};

using InventoryOf = Sysfs;
using Attributes = Sysfs;

TEST_F(InventoryOf, AMachineWithoutAnything) {
  const Inventory inventory = take();
  EXPECT_TRUE(inventory.devices.empty());
  EXPECT_TRUE(inventory.gpus.empty());
  EXPECT_FALSE(inventory.gpu_direct.possible());
}

TEST_F(InventoryOf, ThisMachineDoesNotFail) {
  for (const verbs::RdmaDevice& device : verbs::take_inventory().devices) {
    EXPECT_FALSE(device.name.empty());
  }
}

TEST_F(InventoryOf, OneCard) {
  sysfs_.add_nic("mlx5_0", "pci0000:17/0000:17:00.0/0000:18:00.0", 1, "4: ACTIVE",
                 "200 Gb/sec (4X HDR)");
  const Inventory inventory = take();
  ASSERT_EQ(inventory.devices.size(), 1U);
  const verbs::RdmaDevice& device = inventory.devices[0];
  EXPECT_EQ(device.name, "mlx5_0");
  EXPECT_EQ(device.numa, 1);
  EXPECT_FALSE(device.software);
  EXPECT_EQ(device.pci, (verbs::PciPath{"pci0000:17", "0000:17:00.0", "0000:18:00.0"}));
  ASSERT_EQ(device.ports.size(), 1U);
  const Port& port = device.ports[0];
  EXPECT_TRUE(port.active());
  EXPECT_EQ(port.physical, "LinkUp");
  EXPECT_EQ(port.link, Port::Link::infiniband);
  EXPECT_EQ(port.gbps, 200);
  ASSERT_EQ(port.gids.size(), 2U) << "only those that are set";
  EXPECT_EQ(port.gids[1].index, 10);
  EXPECT_EQ(port.gids[1].type, "RoCE v2");
  EXPECT_EQ(port.gids[1].interface, "eth0");
}

TEST_F(InventoryOf, SoftRoce) {
  sysfs_.add_soft("rxe0", "eth0");
  const Inventory inventory = take();
  ASSERT_EQ(inventory.devices.size(), 1U);
  EXPECT_TRUE(inventory.devices[0].software);
  EXPECT_TRUE(inventory.devices[0].pci.empty());
  EXPECT_EQ(inventory.devices[0].numa, -1);
  EXPECT_EQ(inventory.devices[0].ports.at(0).link, Port::Link::ethernet);
  EXPECT_EQ(inventory.devices[0].ports.at(0).gbps, 2.5);
}

TEST_F(InventoryOf, AnHgxHost) {
  make_dgx(sysfs_);
  sysfs_.add_pci("pci0000:00/0000:00:02.0", 0, "0x8086", "0x030000");               // not NVIDIA's
  sysfs_.add_pci("pci0000:00/0000:00:03.0/0000:0f:00.0", 0, "0x10de", "0x068000");  // its switch
  const Inventory inventory = take();
  ASSERT_EQ(inventory.gpus.size(), 8U);
  ASSERT_EQ(inventory.devices.size(), 10U);
  EXPECT_EQ(inventory.devices.back().name, "mlx5_9");
  EXPECT_FALSE(inventory.devices.back().ports.at(0).active());
  EXPECT_EQ(inventory.gpus[7].numa, 1);
  EXPECT_EQ(inventory.gpus[7].path.size(), 5U);
}

TEST_F(InventoryOf, GpuDirect) {
  sysfs_.write("proc/driver/nvidia/version",
               "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.07  Sat Feb 17 2024\n"
               "GCC version:  gcc version 12.2.0");
  EXPECT_EQ(take().gpu_direct.driver, "535.161.07");
  EXPECT_FALSE(take().gpu_direct.possible());
  sysfs_.write("sys/module/nvidia_peermem/refcnt", "0");
  EXPECT_TRUE(take().gpu_direct.peermem);
  EXPECT_TRUE(take().gpu_direct.possible());
  sysfs_.write("proc/driver/nvidia/version",
               "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build");
  EXPECT_EQ(take().gpu_direct.driver, "550.54.15");
  EXPECT_TRUE(take().gpu_direct.open_driver);
}

TEST_F(InventoryOf, ATreeThatMakesNoSense) {
  const std::string port = "sys/class/infiniband/bad_0/ports/1";
  sysfs_.write(port + "/state", std::string(1 << 20, 'A'));
  sysfs_.write(port + "/rate", "-1e300 Gb/sec");
  sysfs_.write(port + "/link_layer", "");
  sysfs_.write(port + "/gids/x", "not a number");
  sysfs_.write(port + "/gids/3", "");
  sysfs_.write("sys/class/infiniband/bad_0/ports/99999999999999999999/state", "4: ACTIVE");
  sysfs_.write("sys/class/infiniband/bad_0/ports/-4/state", "4: ACTIVE");
  sysfs_.write("sys/class/infiniband/bad_0/device/numa_node", "many");
  sysfs_.write("sys/class/infiniband/file", "this is no folder");
  fs::create_symlink("nowhere", sysfs_.sys() / "class/infiniband/dangling");
  fs::create_symlink("loop", sysfs_.sys() / "class/infiniband/loop");
  ASSERT_EQ(::mkfifo((sysfs_.sys() / "class/infiniband/bad_0/ports/1/phys_state").c_str(), 0600),
            0);
  sysfs_.write("sys/bus/pci/devices/0000:zz:00.0/vendor", "0x10de");
  sysfs_.write("sys/bus/pci/devices/0000:zz:00.0/class", "0x030200");
  const Inventory inventory = take();
  ASSERT_EQ(inventory.devices.size(), 4U);
  const verbs::RdmaDevice& bad = inventory.devices[0];
  EXPECT_EQ(bad.name, "bad_0");
  EXPECT_EQ(bad.numa, -1);
  ASSERT_EQ(bad.ports.size(), 1U);
  EXPECT_FALSE(bad.ports[0].active());
  EXPECT_EQ(bad.ports[0].gbps, 0);
  EXPECT_EQ(bad.ports[0].link, Port::Link::unknown);
  EXPECT_TRUE(bad.ports[0].gids.empty());
  ASSERT_EQ(inventory.gpus.size(), 1U);
  EXPECT_TRUE(inventory.gpus[0].path.empty());
}

TEST_F(Attributes, AreReadUpToAPage) {
  sysfs_.write("page", std::string(verbs::kMaxAttributeBytes - 1, 'x'));
  sysfs_.write("more", std::string(verbs::kMaxAttributeBytes, 'x'));
  const fs::path root = sysfs_.sys().parent_path();
  EXPECT_EQ(verbs::read_attribute(root / "page")->size(), verbs::kMaxAttributeBytes - 1);
  EXPECT_FALSE(verbs::read_attribute(root / "more"));
  EXPECT_FALSE(verbs::read_attribute(root));
  EXPECT_FALSE(verbs::read_attribute(root / "absent"));
}

TEST_F(Attributes, OfAFolderAreInTheOrderOfTheirNumbers) {
  for (const char* name : {"mlx5_10", "mlx5_2", "mlx5_1", "mlx4_11", "bond", "mlx5_"}) {
    sysfs_.write(std::string("names/") + name, "");
  }
  const auto names = verbs::entries_of(sysfs_.sys().parent_path() / "names");
  EXPECT_EQ(names,
            (std::vector<std::string>{"bond", "mlx4_11", "mlx5_", "mlx5_1", "mlx5_2", "mlx5_10"}));
}

TEST_F(Attributes, AreNumbersInTheKernelsWay) {
  EXPECT_EQ(verbs::number_in("42"), 42);
  EXPECT_EQ(verbs::number_in("-1"), -1);
  EXPECT_EQ(verbs::number_in("0x10de"), 0x10de);
  EXPECT_FALSE(verbs::number_in(""));
  EXPECT_FALSE(verbs::number_in("0x"));
  EXPECT_FALSE(verbs::number_in("99999999999999999999"));
}

}  // namespace
}  // namespace membrain::verbs_test
