// Arenas of this host that GPUs read by themselves: page-locked for them.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "base/thread_pool.h"
#include "cache/client/mapped_arena.h"
#include "transport/cuda/device.h"

namespace membrain {

/// Page-locks what is mapped, or does as if, in a test.
class ArenaPinner {
 public:
  /// Keeps the arena mapped and page-locked.
  using Pinned = std::shared_ptr<const void>;

  virtual ~ArenaPinner() = default;
  /// `done` is called once, soon or after seconds, on any thread: with null if it cannot be.
  virtual void pin(std::shared_ptr<const MappedArena> arena, std::function<void(Pinned)> done) = 0;
  /// What is under way ends soon, with null.
  virtual void stop() noexcept = 0;
};

/// By NVIDIA's driver, which takes milliseconds a GiB: on a thread of its own, a GiB at a time, and
/// unlocked there too, as that waits for the GPU.
///
/// Threads  Any. What it made may outlive it.
class ArenaPins final : public ArenaPinner {
 public:
  explicit ArenaPins(std::shared_ptr<const cuda::Device> device);
  ~ArenaPins() override;

  void pin(std::shared_ptr<const MappedArena> arena, std::function<void(Pinned)> done) override;
  void stop() noexcept override { stopped_ = true; }

 private:
  struct Held;
  [[nodiscard]] std::unique_ptr<const Held> lock(std::shared_ptr<const MappedArena> arena) const;

  const std::shared_ptr<const cuda::Device> device_;
  std::atomic<bool> stopped_ = false;
  const std::shared_ptr<ThreadPool> thread_;  ///< shared with what it made
};

}  // namespace membrain
