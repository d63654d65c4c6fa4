// SimWindows: remote reads in a simulated network.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "transport/loop.h"
#include "transport/sim_network.h"
#include "transport/windows.h"

namespace membrain {

/// See SimNetwork::make_windows. A read lands in two halves, so that torn ones show, at what times
/// the network's delays say; it does not need the owner's loop to turn, as the hardware does not.
/// A partition holds it for `partition_notice`, then it fails; a dead owner fails it after a while.
/// A bit may flip on the way.
///
/// Threads  The network's.
class SimWindows final : public Windows {
 public:
  SimWindows(SimNetwork& network, Loop& loop, std::uint32_t process);
  ~SimWindows() override;
  SimWindows(const SimWindows&) = delete;
  SimWindows& operator=(const SimWindows&) = delete;

  Result<std::vector<std::byte>> open(std::span<std::byte> memory) override;
  Result<std::unique_ptr<RemoteWindow>> enter(std::span<const std::byte> window) override;

 private:
  friend class SimNetwork;
  friend class SimRemoteWindow;

  SimNetwork& network_;
  Loop& loop_;
  std::uint32_t process_;
  bool killed_ = false;
};

}  // namespace membrain
