// NCCL as a group's Collective, on a thread of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "cache/group/collective.h"
#include "cache/memory/bell.h"
#include "membrain/result.h"
#include "transport/cuda/device.h"
#include "transport/nccl/library.h"

namespace membrain {

/// NCCL waits, and so whatever calls it happens on one thread ("mb-nccl"), which starts with the
/// first call. One GPU's blocks: the lane's. The communicator is kept until something fails.
///
/// Ownership  The loop and the lane outlive it. A thread that NCCL does not let go of within a
///            second is left behind with what it holds, and said so in the log.
/// Threads    `open`: any; the rest as Collective.
class NcclCollective final : public Collective {
 public:
  /// Chunks are of as many bytes as one of the lane's staging slots. Takes two of them on the GPU
  /// with the first run, besides what NCCL itself takes.
  NcclCollective(Loop& loop, std::shared_ptr<const nccl::Library> library,
                 std::shared_ptr<const cuda::Device> device, std::size_t chunk_bytes,
                 std::uint32_t rank, std::uint32_t size);
  ~NcclCollective() override;

  std::string_view name() const noexcept override { return "nccl"; }
  std::uint32_t most_blocks(std::uint64_t block_bytes, std::size_t pieces) const noexcept override;
  const wire::CollectiveId& current() const noexcept override { return current_; }
  Task<wire::CollectiveId> make_id(TimePoint deadline) override;
  Task<std::vector<bool>> run(CollectiveJob job) override;
  void stop() noexcept override;
  Task<> close() override;

 private:
  struct Worker;
  struct Run;
  /// Until `over()`, or a little after `deadline` or a stop.
  template <class Over>
  Task<> wait(Over over, TimePoint deadline);

  Loop& loop_;
  const std::size_t chunk_bytes_;
  std::shared_ptr<Bell> bell_;
  std::shared_ptr<Worker> worker_;  ///< shared with its thread
  std::shared_ptr<Run> last_;       ///< shared with it likewise
  wire::CollectiveId current_{};
  std::optional<TimePoint> stopped_at_;
};

}  // namespace membrain
