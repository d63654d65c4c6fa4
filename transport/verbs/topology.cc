#include "transport/verbs/topology.h"

#include <algorithm>
#include <cstddef>
#include <map>

namespace membrain::verbs {

std::string_view to_string(Distance distance) noexcept {
  switch (distance) {
    case Distance::pix:
      return "PIX";
    case Distance::pxb:
      return "PXB";
    case Distance::phb:
      return "PHB";
    case Distance::node:
      return "NODE";
    case Distance::sys:
      return "SYS";
    case Distance::unknown:
      break;
  }
  return "?";
}

Distance distance_of(const Gpu& gpu, const RdmaDevice& device) noexcept {
  const PciPath& a = gpu.path;
  const PciPath& b = device.pci;
  if (a.empty() || b.empty()) return Distance::unknown;
  const auto [from_a, from_b] = std::ranges::mismatch(a, b);
  const auto shared = from_a - a.begin();
  // Two roots. A machine with one NUMA node often names none (-1).
  if (shared == 0) return gpu.numa == device.numa ? Distance::node : Distance::sys;
  if (shared == 1) return Distance::phb;
  // Below one switch: its port and the device itself on either side.
  constexpr std::ptrdiff_t kBelowASwitch = 2;
  const bool near = a.end() - from_a <= kBelowASwitch && b.end() - from_b <= kBelowASwitch;
  return near ? Distance::pix : Distance::pxb;
}

std::string port_name(const RdmaDevice& device, const Port& port) {
  return device.name + ":" + std::to_string(port.number);
}

std::string Affinity::net_devices() const {
  std::string list;
  for (const std::string& port : ports) list += (list.empty() ? "" : ",") + port;
  return list;
}

std::vector<Affinity> affinities(const Inventory& inventory) {
  std::vector<Affinity> all;
  std::map<std::vector<std::string>, std::size_t> sharing;  // GPUs so far, by their ports
  for (const Gpu& gpu : inventory.gpus) {
    Affinity affinity;
    affinity.gpu = gpu.pci;
    std::vector<std::pair<double, std::string>> nearest;  // speed, name
    for (const RdmaDevice& device : inventory.devices) {
      const Distance distance = distance_of(gpu, device);
      for (const Port& port : device.ports) {
        if (!port.active() || distance > affinity.distance) continue;
        if (distance < affinity.distance) nearest.clear();
        affinity.distance = distance;
        nearest.emplace_back(port.gbps, port_name(device, port));
      }
    }
    std::ranges::stable_sort(nearest, std::ranges::greater(),
                             [](const auto& one) { return one.first; });
    for (const auto& [speed, name] : nearest) affinity.ports.push_back(name);
    if (!nearest.empty()) {
      const auto fastest = std::ranges::count_if(
          nearest, [&](const auto& one) { return one.first == nearest.front().first; });
      const auto turn = static_cast<std::ptrdiff_t>(sharing[affinity.ports]++) % fastest;
      const auto begin = affinity.ports.begin();
      std::rotate(begin, begin + turn, begin + fastest);
    }
    all.push_back(std::move(affinity));
  }
  return all;
}

}  // namespace membrain::verbs
