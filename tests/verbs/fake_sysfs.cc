#include "tests/verbs/fake_sysfs.h"

#include <cstdlib>
#include <fstream>

namespace membrain::verbs_test {

namespace fs = std::filesystem;

FakeSysfs::FakeSysfs() {
  std::string shape = (fs::temp_directory_path() / "membrain-sysfs-XXXXXX").string();
  root_ = ::mkdtemp(shape.data());
}

FakeSysfs::~FakeSysfs() {
  fs::remove_all(root_);
}

void FakeSysfs::write(const std::string& file, const std::string& text) {
  fs::create_directories((root_ / file).parent_path());
  std::ofstream(root_ / file) << text << "\n";
}

void FakeSysfs::add_pci(const std::string& path, int numa, const std::string& vendor,
                        const std::string& pci_class) {
  const std::string folder = "sys/devices/" + path;
  write(folder + "/numa_node", std::to_string(numa));
  write(folder + "/vendor", vendor);
  write(folder + "/class", pci_class);
  fs::create_directories(sys() / "bus/pci/devices");
  const fs::path link = sys() / "bus/pci/devices" / fs::path(path).filename();
  fs::create_directory_symlink(root_ / folder, link);
}

void FakeSysfs::add_port(const std::string& folder, const std::string& state,
                         const std::string& rate, const std::string& link) {
  write(folder + "/state", state);
  write(folder + "/phys_state", state.ends_with("ACTIVE") ? "5: LinkUp" : "3: Disabled");
  write(folder + "/rate", rate);
  write(folder + "/link_layer", link);
  write(folder + "/gids/0", "fe80:0000:0000:0000:0000:0000:0000:0001");
  write(folder + "/gids/1", "0000:0000:0000:0000:0000:0000:0000:0000");
  write(folder + "/gids/10", "0000:0000:0000:0000:0000:ffff:0a00:0001");
  write(folder + "/gid_attrs/types/10", "RoCE v2");
  write(folder + "/gid_attrs/ndevs/10", "eth0");
}

void FakeSysfs::add_nic(const std::string& name, const std::string& path, int numa,
                        const std::string& state, const std::string& rate,
                        const std::string& link) {
  add_pci(path, numa, "0x15b3", "0x020700");
  const std::string folder = "sys/devices/" + path + "/infiniband/" + name;
  add_port(folder + "/ports/1", state, rate, link);
  fs::create_directory_symlink(root_ / "sys/devices" / path, root_ / folder / "device");
  fs::create_directories(sys() / "class/infiniband");
  fs::create_directory_symlink(root_ / folder, sys() / "class/infiniband" / name);
}

void FakeSysfs::add_soft(const std::string& name, const std::string& interface) {
  const std::string folder = "sys/class/infiniband/" + name;
  add_port(folder + "/ports/1", "4: ACTIVE", "2.5 Gb/sec (1X SDR)", "Ethernet");
  write(folder + "/parent", interface);
}

void make_dgx(FakeSysfs& sysfs) {
  for (int i = 0; i < 8; ++i) {
    // Bus numbers in steps of 16: the switch at 0x, its two ports, the GPU and the NIC behind them.
    const std::string bus(1, "0123456789abcdef"[i * 2]);
    const std::string root = "pci0000:" + bus + "0/0000:" + bus + "0:01.0/0000:" + bus + "1:00.0";
    const int numa = i / 4;
    sysfs.add_gpu(root + "/0000:" + bus + "2:00.0/0000:" + bus + "3:00.0", numa);
    sysfs.add_nic("mlx5_" + std::to_string(i),
                  root + "/0000:" + bus + "2:01.0/0000:" + bus + "4:00.0", numa);
  }
  // Two more for storage, on the host bridges of the sockets.
  sysfs.add_nic("mlx5_8", "pci0000:00/0000:00:05.0/0000:05:00.0", 0, "4: ACTIVE",
                "200 Gb/sec (4X HDR)");
  sysfs.add_nic("mlx5_9", "pci0000:80/0000:80:05.0/0000:85:00.0", 1, "1: DOWN", "10 Gb/sec (1X)");
}

}  // namespace membrain::verbs_test
