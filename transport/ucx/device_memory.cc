#include "transport/ucx/device_memory.h"

#include <system_error>
#include <utility>

namespace membrain {

namespace {

bool names(std::string_view line, std::string_view word) noexcept {
  return line.find(word) != std::string_view::npos;
}

}  // namespace

bool nics_reach_gpus(const std::filesystem::path& sysfs, unsigned ucx_major, unsigned ucx_minor) {
  std::error_code none;
  if (std::filesystem::exists(sysfs / "kernel/mm/memory_peers/nv_mem/version", none)) return true;
  const bool later = std::pair(ucx_major, ucx_minor) >= std::pair(1U, 14U);
  return later && std::filesystem::exists(sysfs / "module/nvidia_peermem/version", none);
}

DevicePayloads device_payloads_of(const DeviceSupport& support,
                                  std::string_view endpoint_info) noexcept {
  if (!support.cuda) return DevicePayloads::none;
  DevicePayloads found = DevicePayloads::none;
  while (!endpoint_info.empty()) {
    const std::size_t end = endpoint_info.find('\n');
    const std::string_view line = endpoint_info.substr(0, end);
    endpoint_info.remove_prefix(end == std::string_view::npos ? endpoint_info.size() : end + 1);
    if (!names(line, "lane[") || !names(line, "rma_bw")) continue;
    if (support.nics && (names(line, ":rc_") || names(line, ":dc_"))) return DevicePayloads::any;
    if (names(line, ":cuda_ipc/")) found = DevicePayloads::between_devices;
  }
  return found;
}

}  // namespace membrain
