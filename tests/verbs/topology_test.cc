// How far a GPU is from a network port, and which ports it is told to use.
#include "transport/verbs/topology.h"

#include <gtest/gtest.h>

#include "tests/verbs/fake_sysfs.h"

namespace membrain::verbs_test {
namespace {

using verbs::Affinity;
using verbs::Distance;
using verbs::Gpu;
using verbs::Inventory;
using verbs::PciPath;
using verbs::RdmaDevice;

Gpu gpu(PciPath path, int numa = 0) {
  Gpu made;
  made.pci = path.empty() ? "none" : path.back();
  made.numa = numa;
  made.path = std::move(path);
  return made;
}

RdmaDevice nic(PciPath path, int numa = 0, const char* name = "mlx5_0", double gbps = 400) {
  RdmaDevice made;
  made.name = name;
  made.numa = numa;
  made.pci = std::move(path);
  verbs::Port port;
  port.state = "ACTIVE";
  port.gbps = gbps;
  made.ports.push_back(port);
  return made;
}

TEST(Topology, DistancesAreThoseOfNvidiaSmi) {
  const PciPath here{"pci0000:10", "0000:10:01.0", "0000:11:00.0", "0000:12:00.0", "0000:13:00.0"};
  const auto at = [&](PciPath path, int numa = 0) {
    return distance_of(gpu(here), nic(std::move(path), numa));
  };
  EXPECT_EQ(at({"pci0000:10", "0000:10:01.0", "0000:11:00.0", "0000:12:01.0", "0000:14:00.0"}),
            Distance::pix);
  EXPECT_EQ(at({"pci0000:10", "0000:10:01.0", "0000:11:00.0", "0000:12:02.0", "0000:15:00.0",
                "0000:16:00.0", "0000:17:00.0"}),
            Distance::pxb);
  EXPECT_EQ(at({"pci0000:10", "0000:10:02.0", "0000:18:00.0"}), Distance::phb);
  EXPECT_EQ(at({"pci0000:20", "0000:20:01.0", "0000:21:00.0"}), Distance::node);
  EXPECT_EQ(at({"pci0000:80", "0000:80:01.0", "0000:81:00.0"}, 1), Distance::sys);
  EXPECT_EQ(at({}), Distance::unknown);
}

TEST(Topology, EachGpuOfAnHgxGetsThePortBesideIt) {
  FakeSysfs sysfs;
  make_dgx(sysfs);
  const std::vector<Affinity> all = affinities(verbs::take_inventory(sysfs.sys(), sysfs.proc()));
  ASSERT_EQ(all.size(), 8U);
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].distance, Distance::pix);
    EXPECT_EQ(all[i].net_devices(), "mlx5_" + std::to_string(i) + ":1");
  }
}

TEST(Topology, GpusThatSharePortsBeginWithDifferentOnes) {
  Inventory inventory;
  for (int i = 0; i < 4; ++i) {
    inventory.gpus.push_back(gpu({"pci0000:10", "0000:10:01.0", "0000:1" + std::to_string(i)}));
  }
  inventory.devices.push_back(nic({"pci0000:20", "a", "b"}, 0, "mlx5_0", 200));
  inventory.devices.push_back(nic({"pci0000:20", "a", "c"}, 0, "mlx5_1", 400));
  inventory.devices.push_back(nic({"pci0000:20", "a", "d"}, 0, "mlx5_2", 400));
  inventory.devices.push_back(nic({"pci0000:80", "a", "e"}, 1, "mlx5_3", 800));
  const std::vector<Affinity> all = affinities(inventory);
  EXPECT_EQ(all[0].net_devices(), "mlx5_1:1,mlx5_2:1,mlx5_0:1");
  EXPECT_EQ(all[1].net_devices(), "mlx5_2:1,mlx5_1:1,mlx5_0:1");
  EXPECT_EQ(all[2].net_devices(), all[0].net_devices());
  EXPECT_EQ(all[0].distance, Distance::node);
}

TEST(Topology, APortThatIsDownIsNotSuggested) {
  Inventory inventory;
  inventory.gpus.push_back(gpu({"pci0000:10", "a", "b"}));
  inventory.devices.push_back(nic({"pci0000:10", "a", "c"}));
  inventory.devices[0].ports[0].state = "DOWN";
  EXPECT_EQ(affinities(inventory)[0].net_devices(), "");
  inventory.devices.push_back(nic({}, -1, "rxe0"));
  EXPECT_EQ(affinities(inventory)[0].net_devices(), "rxe0:1") << "better than none";
}

}  // namespace
}  // namespace membrain::verbs_test
