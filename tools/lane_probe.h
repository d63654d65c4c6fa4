// What each way between two processes of this host carries, measured in a moment.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "membrain/result.h"
#include "tools/machine_facts.h"
#include "tools/signals.h"

namespace membrain {

/// One lane, for one kind of memory.
struct LaneFigure {
  std::string lane;             ///< "tcp", "shm", "rdma", "mapped", "gpu0", "shm_gpu", "rdma_gpu"
  std::string memory = "host";  ///< "host", or "device": between the host and that GPU, or of GPUs
  std::string route;            ///< what really carries it, and which protocol for which size
  double roundtrip_us = 0;      ///< of 4 KiB asked for; 0: not measured
  double bytes_per_second = 0;  ///< of blocks of 1 MiB, four under way
  std::string reason;           ///< why there is no figure; empty: there is
};

/// The lanes that this machine should have: mapped, shared memory, TCP, RDMA with an active port
/// that may be opened, and every GPU; with a UCX that knows it, the first one's memory by shared
/// memory and RDMA (as reports call it: shm_gpu, rdma_gpu).
[[nodiscard]] std::vector<std::string> lanes_of(const MachineFacts& facts);

/// Measures one, in this process, in about half a second. UCX can end a process over a device that
/// is broken: `probe_lane` guards against that.
[[nodiscard]] LaneFigure measure_lane(const std::string& lane);

/// Measures one in a process of its own; whatever happens there is in `reason`.
[[nodiscard]] LaneFigure probe_lane(const std::string& lane, Signals& signals);

/// One line between the two.
[[nodiscard]] std::string to_line(const LaneFigure& figure);
[[nodiscard]] std::optional<LaneFigure> figure_from_line(const std::string& line);

}  // namespace membrain
