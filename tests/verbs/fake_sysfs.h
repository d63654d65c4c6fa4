// A tree like /sys and /proc, of a machine that is made up.
#pragma once

#include <filesystem>
#include <string>

namespace membrain::verbs_test {

/// Removed when it goes.
class FakeSysfs {
 public:
  FakeSysfs();
  ~FakeSysfs();
  FakeSysfs(const FakeSysfs&) = delete;
  FakeSysfs& operator=(const FakeSysfs&) = delete;

  [[nodiscard]] std::filesystem::path sys() const { return root_ / "sys"; }
  [[nodiscard]] std::filesystem::path proc() const { return root_ / "proc"; }

  /// A file below the root, with its folders.
  void write(const std::string& file, const std::string& text);
  /// A PCI device at a path like "pci0000:17/0000:17:00.0/0000:18:00.0".
  void add_pci(const std::string& path, int numa, const std::string& vendor,
               const std::string& pci_class);
  void add_gpu(const std::string& path, int numa) { add_pci(path, numa, "0x10de", "0x030200"); }
  /// An RDMA device with one port, on its own PCI device.
  void add_nic(const std::string& name, const std::string& path, int numa,
               const std::string& state = "4: ACTIVE",
               const std::string& rate = "400 Gb/sec (4X NDR)",
               const std::string& link = "InfiniBand");
  /// Soft-RoCE upon a network interface.
  void add_soft(const std::string& name, const std::string& interface);

 private:
  void add_port(const std::string& folder, const std::string& state, const std::string& rate,
                const std::string& link);
  std::filesystem::path root_;
};

/// Two sockets with four switches each: below each a GPU and a NIC, as in a DGX.
void make_dgx(FakeSysfs& sysfs);

}  // namespace membrain::verbs_test
