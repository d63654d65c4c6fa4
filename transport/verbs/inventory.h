// What of RDMA and GPUs this machine has, from sysfs: no library, no device is opened.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace membrain::verbs {

/// Where a device hangs: its host bridge ("pci0000:17"), the bridges below, and itself
/// ("0000:18:00.0"). Empty for what is no PCI device.
using PciPath = std::vector<std::string>;

/// An address of a port.
struct Gid {
  int index = 0;
  std::string address;    ///< as sysfs writes it: eight groups of four hexadecimal digits
  std::string type;       ///< e.g. "RoCE v2", "IB/RoCE v1"
  std::string interface;  ///< the network interface of RoCE, e.g. "eth2"
};

struct Port {
  enum class Link : std::uint8_t { unknown, infiniband, ethernet };
  int number = 1;
  std::string state;     ///< e.g. "ACTIVE", "DOWN"
  std::string physical;  ///< e.g. "LinkUp", "Disabled"
  Link link = Link::unknown;
  double gbps = 0;  ///< as the port calls it: 1e9 bits a second
  std::vector<Gid> gids;

  [[nodiscard]] bool active() const noexcept { return state == "ACTIVE"; }
};

struct RdmaDevice {
  std::string name;       ///< e.g. "mlx5_0"
  bool software = false;  ///< Soft-RoCE and its like
  int numa = -1;          ///< -1: unknown
  PciPath pci;
  std::vector<Port> ports;
};

struct Gpu {
  std::string pci;  ///< e.g. "0000:1b:00.0"
  int numa = -1;
  PciPath path;
};

/// What lets a network card reach GPU memory.
struct GpuDirect {
  std::string driver;        ///< version of NVIDIA's kernel driver; empty: none
  bool open_driver = false;  ///< its open kernel modules: they export memory as dmabuf
  bool peermem = false;      ///< nvidia_peermem (or nv_peer_mem) is loaded
  [[nodiscard]] bool possible() const noexcept { return peermem || open_driver; }
};

struct Inventory {
  std::vector<RdmaDevice> devices;  ///< by name
  std::vector<Gpu> gpus;            ///< by address on the bus, as CUDA counts with PCI_BUS_ID
  GpuDirect gpu_direct;
};

/// Reads it. What is missing or makes no sense is left out or left at its default: no tree makes it
/// fail. Milliseconds.
[[nodiscard]] Inventory take_inventory(const std::filesystem::path& sysfs = "/sys",
                                       const std::filesystem::path& procfs = "/proc");

}  // namespace membrain::verbs
