// How far GPUs and RDMA ports are from each other, and which ports suit which GPU. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "transport/verbs/inventory.h"

namespace membrain::verbs {

/// From near to far, with the names of `nvidia-smi topo -m`.
enum class Distance : std::uint8_t {
  pix,      ///< below one bridge: one PCIe switch
  pxb,      ///< over several bridges, but not the host's
  phb,      ///< over the host bridge
  node,     ///< over two host bridges of one NUMA node
  sys,      ///< between NUMA nodes
  unknown,  ///< one of them is no PCI device
};
[[nodiscard]] std::string_view to_string(Distance distance) noexcept;  ///< e.g. "PIX"

[[nodiscard]] Distance distance_of(const Gpu& gpu, const RdmaDevice& device) noexcept;

/// A port by UCX's name for it, e.g. "mlx5_0:1".
[[nodiscard]] std::string port_name(const RdmaDevice& device, const Port& port);

/// Which ports one GPU's blocks had best go through.
struct Affinity {
  std::string gpu;  ///< its address on the bus
  Distance distance = Distance::unknown;
  std::vector<std::string> ports;  ///< the nearest active ones, best first; none: there are none

  /// What to set UCX_NET_DEVICES to for the process of this GPU; empty: leave it alone.
  [[nodiscard]] std::string net_devices() const;
};

/// One for each GPU, in their order. Of equally near ports the fastest come first; GPUs that share
/// them begin with different ones, so that eight GPUs do not crowd on one port.
[[nodiscard]] std::vector<Affinity> affinities(const Inventory& inventory);

}  // namespace membrain::verbs
