#include "transport/verbs/inventory.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

#include "transport/verbs/sysfs.h"

namespace membrain::verbs {

namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kNvidia = 0x10de;
constexpr std::int64_t kDisplay = 0x03;  // class of VGA and 3D controllers, in its upper byte
constexpr std::size_t kMaxGids = 64;     // of a port, that are set

/// "0000:18:00.0"
bool is_pci_address(std::string_view name) noexcept {
  constexpr std::string_view kShape = "xxxx:xx:xx.x";
  return name.size() == kShape.size() && std::ranges::equal(name, kShape, [](char is, char shape) {
           const bool digit = (is >= '0' && is <= '9') || (is >= 'a' && is <= 'f');
           return shape == 'x' ? digit : is == shape;
         });
}

/// From the folder of a device, which may be a link.
PciPath pci_path(const fs::path& device) {
  std::error_code error;
  const fs::path real = fs::canonical(device, error);
  PciPath path;
  if (error) return path;
  for (const fs::path& part : real) {
    const std::string name = part.string();
    if (name.starts_with("pci") && name.find(':') != std::string::npos) path = {name};
    if (is_pci_address(name) && !path.empty()) path.push_back(name);
  }
  if (path.size() < 2) path.clear();
  return path;
}

/// "4: ACTIVE" -> "ACTIVE".
std::string after_number(const fs::path& file) {
  const std::string text = read_attribute(file).value_or("");
  const std::size_t colon = text.find(": ");
  return colon == std::string::npos ? text : text.substr(colon + 2);
}

/// "200 Gb/sec (4X HDR)" -> 200.
double rate_in(std::string_view text) noexcept {
  double gbps = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), gbps);
  return error == std::errc() && gbps > 0 && gbps < 1e6 ? gbps : 0;
}

std::vector<Gid> gids_of(const fs::path& port) {
  std::vector<Gid> gids;
  for (const std::string& entry : entries_of(port / "gids")) {
    const std::optional<std::int64_t> index = number_in(entry);
    const std::string address = read_attribute(port / "gids" / entry).value_or("");
    const bool set = address.find_first_not_of("0:") != std::string::npos;
    if (!index || !set) continue;
    Gid gid;
    gid.index = static_cast<int>(*index);
    gid.address = address;
    gid.type = read_attribute(port / "gid_attrs" / "types" / entry).value_or("");
    gid.interface = read_attribute(port / "gid_attrs" / "ndevs" / entry).value_or("");
    gids.push_back(std::move(gid));
    if (gids.size() == kMaxGids) break;
  }
  return gids;
}

Port read_port(const fs::path& folder, int number) {
  Port port;
  port.number = number;
  port.state = after_number(folder / "state");
  port.physical = after_number(folder / "phys_state");
  const std::string link = read_attribute(folder / "link_layer").value_or("");
  if (link == "InfiniBand") port.link = Port::Link::infiniband;
  if (link == "Ethernet") port.link = Port::Link::ethernet;
  port.gbps = rate_in(read_attribute(folder / "rate").value_or(""));
  port.gids = gids_of(folder);
  return port;
}

RdmaDevice read_device(const fs::path& folder) {
  RdmaDevice device;
  device.name = folder.filename().string();
  std::error_code none;
  device.software = fs::exists(folder / "parent", none);  // the interface that it was made upon
  device.pci = pci_path(folder / "device");
  device.numa = static_cast<int>(read_number(folder / "device" / "numa_node", -1));
  for (const std::string& entry : entries_of(folder / "ports")) {
    const std::optional<std::int64_t> number = number_in(entry);
    if (number && *number >= 1 && *number <= 255) {
      device.ports.push_back(read_port(folder / "ports" / entry, static_cast<int>(*number)));
    }
  }
  return device;
}

std::vector<Gpu> gpus_of(const fs::path& sysfs) {
  std::vector<Gpu> gpus;
  const fs::path all = sysfs / "bus/pci/devices";
  for (const std::string& entry : entries_of(all)) {
    if (read_number(all / entry / "vendor", 0) != kNvidia) continue;
    if (read_number(all / entry / "class", 0) >> 16 != kDisplay) continue;
    Gpu gpu;
    gpu.pci = entry;
    gpu.numa = static_cast<int>(read_number(all / entry / "numa_node", -1));
    gpu.path = pci_path(all / entry);
    gpus.push_back(std::move(gpu));
  }
  std::ranges::sort(gpus, {}, &Gpu::pci);
  return gpus;
}

/// "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build ...".
GpuDirect gpu_direct_of(const fs::path& sysfs, const fs::path& procfs) {
  GpuDirect direct;
  const std::string version = read_attribute(procfs / "driver/nvidia/version").value_or("");
  direct.open_driver = version.find("Open Kernel Module") != std::string::npos;
  for (std::size_t at = 0; at < version.size() && direct.driver.empty();) {
    const std::size_t end = std::min(version.find_first_of(" \n", at), version.size());
    const std::string_view word(version.data() + at, end - at);
    const bool number = word.find_first_not_of("0123456789.") == std::string_view::npos;
    if (number && word.find('.') != std::string_view::npos) direct.driver = word;
    at = end + 1;
  }
  std::error_code none;
  direct.peermem = fs::exists(sysfs / "module/nvidia_peermem", none) ||
                   fs::exists(sysfs / "module/nv_peer_mem", none);
  return direct;
}

}  // namespace

Inventory take_inventory(const fs::path& sysfs, const fs::path& procfs) {
  Inventory inventory;
  const fs::path all = sysfs / "class/infiniband";
  for (const std::string& entry : entries_of(all)) {
    inventory.devices.push_back(read_device(all / entry));
  }
  inventory.gpus = gpus_of(sysfs);
  inventory.gpu_direct = gpu_direct_of(sysfs, procfs);
  return inventory;
}

}  // namespace membrain::verbs
