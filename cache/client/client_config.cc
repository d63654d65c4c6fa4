#include "cache/client/client_config.h"

#include <algorithm>
#include <cstdint>

#include "cache/client/deadline.h"
#include "protocol/messages.h"

namespace membrain {

namespace {

constexpr std::uint32_t kMaxCopyThreads = 64;
constexpr std::uint32_t kMaxStagingSlots = 64;
constexpr std::uint64_t kMinStagingBytes = 64 * 1024;

}  // namespace

Result<> check_config(ClientConfig& config) {
  const auto bad = [](const char* why) { return fail(Errc::invalid_argument, why); };
  if (config.server.empty()) return bad("ClientConfig::server is empty");
  if (config.tenant.empty() || config.tenant.size() > wire::kMaxTextBytes) {
    return bad("ClientConfig::tenant has 1 to 256 bytes");
  }
  if (config.label.size() > wire::kMaxTextBytes) return bad("ClientConfig::label is too long");
  if (config.connect_timeout.count() <= 0 || config.default_timeout.count() <= 0) {
    return bad("ClientConfig: a time-out must be positive");
  }
  if (config.fetch_window_blocks == 0) return bad("ClientConfig::fetch_window_blocks is 0");
  if (config.copy_threads > kMaxCopyThreads) return bad("ClientConfig::copy_threads is above 64");
  if (config.devices.empty() && !config.share_listen.empty()) {
    return bad("ClientConfig::share_listen without devices: only a GPU's blocks are shared");
  }
  if (config.devices.empty() && config.pin_arenas) {
    return bad("ClientConfig::pin_arenas without devices: arenas are page-locked for GPUs");
  }
  if (!config.devices.empty()) {
    if (config.staging_slots == 0 || config.staging_slots > kMaxStagingSlots) {
      return bad("ClientConfig::staging_slots is 1 to 64");
    }
    if (config.share_slots == 0 || config.share_slots > kMaxStagingSlots) {
      return bad("ClientConfig::share_slots is 1 to 64");
    }
    if (config.staging_slot_bytes < kMinStagingBytes) {
      return bad("ClientConfig::staging_slot_bytes is below 64 KiB");
    }
  }
  config.connect_timeout = std::min(config.connect_timeout, kLongestTimeout);
  config.default_timeout = std::min(config.default_timeout, kLongestTimeout);
  return {};
}

}  // namespace membrain
