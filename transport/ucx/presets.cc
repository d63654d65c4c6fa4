#include "transport/ucx/presets.h"

#include <array>
#include <system_error>

namespace membrain {

namespace {

constexpr std::array kEverywhere = {
    // By default a new endpoint waits inside connect(), and the whole loop with it: for minutes, if
    // the other host fell silent or a firewall stands before it.
    UcxPreset{"UCX_TCP_CONN_NB", "y"},
    UcxPreset{"UCX_POSIX_ERROR_HANDLING", "y"},   // else peer error handling drops shared memory
    UcxPreset{"UCX_SYSV_ERROR_HANDLING", "y"},    // likewise
    UcxPreset{"UCX_CMA_MEMORY_INVALIDATE", "y"},  // likewise
    // One event at a time (16 by default): of those that are taken together, a later one may be of
    // an endpoint that an earlier one has destroyed.
    UcxPreset{"UCX_TCP_MAX_POLL", "1"},
    UcxPreset{"UCX_TCP_TX_SEG_SIZE", "512k"},  // 8 KiB by default, at half the bandwidth
    UcxPreset{"UCX_TCP_RX_SEG_SIZE", "512k"},  // 64 KiB by default
};

constexpr std::array kNoRdma = {
    UcxPreset{"UCX_KEEPALIVE_INTERVAL", "1s"},  // 20 s by default
};

/// With an RDMA device. A peer that does not answer is given up after seven times 134 ms (the next
/// step that hardware has), not after nine seconds; Soft-RoCE takes UCX's own 7 for "for ever".
///
/// UCX's keep-alive sends its datagrams, and those of its own handshakes, past the queue that it
/// empties before it closes an endpoint: closing one under a handshake ends the process. First
/// contact's socket tells of the dead (docs/adr/0038).
constexpr std::array kRdma = {
    UcxPreset{"UCX_KEEPALIVE_INTERVAL", "inf"},
    UcxPreset{"UCX_RC_TIMEOUT", "100ms"},  // 1 s by default
    UcxPreset{"UCX_RC_RETRY_COUNT", "6"},  // 7 by default
};

/// With a Soft-RoCE device. UCX 1.13 takes every unreliable datagram that comes to its IPv4 address
/// for somebody else's, and drops it: no connection is ever made.
constexpr std::array kSoftRoce = {
    UcxPreset{"UCX_UD_VERBS_ETH_DGID_CHECK", "n"},
};

}  // namespace

std::vector<UcxPreset> presets_for(const std::filesystem::path& sysfs) {
  std::vector<UcxPreset> presets(kEverywhere.begin(), kEverywhere.end());
  bool rdma = false;
  bool soft = false;
  std::error_code none;
  for (const auto& device : std::filesystem::directory_iterator(sysfs / "class/infiniband", none)) {
    rdma = true;
    // Only a device made in software names the network interface that it was made upon.
    soft |= std::filesystem::exists(device.path() / "parent", none);
  }
  const auto add = [&presets](const auto& more) {
    presets.insert(presets.end(), more.begin(), more.end());
  };
  rdma ? add(kRdma) : add(kNoRdma);
  if (soft) add(kSoftRoce);
  return presets;
}

}  // namespace membrain
