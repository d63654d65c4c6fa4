// Arenas of this host that GPUs read by themselves: page-locked for them.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>

#include "base/thread_pool.h"
#include "cache/client/mapped_arena.h"
#include "cache/client/writable_arena.h"
#include "transport/cuda/device.h"

namespace membrain {

/// All that blocks of an arena lie in, where GPUs read it.
struct PinnedArena {
  std::span<const std::byte> slots;
  std::size_t part_bytes = 0;  ///< locked by so much: the driver copies from no two parts at once
};

/// Page-locks what is mapped, or does as if, in a test.
class ArenaPinner {
 public:
  /// Keeps the arena mapped and page-locked.
  using Pinned = std::shared_ptr<const PinnedArena>;

  virtual ~ArenaPinner() = default;
  /// What is mapped for reading alone cannot be locked.
  [[nodiscard]] virtual bool needs_writable() const noexcept = 0;
  /// `writable` may be null. `done` is called once, soon or after seconds, on any thread: with null
  /// if it cannot be.
  virtual void pin(std::shared_ptr<const MappedArena> arena,
                   std::shared_ptr<const WritableArena> writable,
                   std::function<void(Pinned)> done) = 0;
  /// What is under way ends soon, with null.
  virtual void stop() noexcept = 0;
};

/// By NVIDIA's driver, which takes milliseconds a GiB: on a thread of its own, a GiB at a time, and
/// unlocked there too, as that waits for the GPU. Most GPUs that are cards of their own lock only
/// what is mapped for writing too: there it is the mapping for stores in place, which is only read.
///
/// Threads  Any. What it made may outlive it.
class ArenaPins final : public ArenaPinner {
 public:
  static constexpr std::size_t kAtOnce = std::size_t{1} << 30;

  explicit ArenaPins(std::shared_ptr<const cuda::Device> device, std::size_t at_once = kAtOnce);
  ~ArenaPins() override;

  [[nodiscard]] bool needs_writable() const noexcept override;
  void pin(std::shared_ptr<const MappedArena> arena, std::shared_ptr<const WritableArena> writable,
           std::function<void(Pinned)> done) override;
  void stop() noexcept override { stopped_ = true; }

 private:
  struct Held;
  [[nodiscard]] std::unique_ptr<const Held> lock(
      std::shared_ptr<const MappedArena> arena,
      std::shared_ptr<const WritableArena> writable) const;

  const std::shared_ptr<const cuda::Device> device_;
  const std::size_t at_once_;
  std::atomic<bool> stopped_ = false;
  const std::shared_ptr<ThreadPool> thread_;  ///< shared with what it made
};

}  // namespace membrain
