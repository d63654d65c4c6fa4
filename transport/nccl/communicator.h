// The members of a group as NCCL sees them.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "base/clock.h"
#include "membrain/result.h"
#include "transport/cuda/stream.h"
#include "transport/nccl/library.h"

namespace membrain::nccl {

/// How long to wait for others: until a time, or until it is stopped. NCCL itself would wait for
/// ever. Any thread.
class Patience {
 public:
  Patience(const Clock& clock, TimePoint until) noexcept : clock_(clock), until_(until) {}

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    changed_.notify_all();
  }
  /// Waits for so long, or less; true if there is none left.
  [[nodiscard]] bool over(std::chrono::microseconds pause) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, pause, [this] { return stopped_; }) || clock_.now() >= until_;
  }

 private:
  const Clock& clock_;
  const TimePoint until_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false;
};

/// One member's end of a communicator, non-blocking in NCCL's words: its calls return at once, and
/// what they began is asked after here.
///
/// Ownership  Destroying it aborts whatever is under way on it. While it lives NCCL keeps some
///            hundreds of MiB of the GPU.
/// Threads    One, for its whole life. It waits: never an engine's or a loop's.
class Communicator {
 public:
  /// Waits for all `size` members with the same id. `timed_out` when patience is over.
  static Result<std::unique_ptr<Communicator>> create(std::shared_ptr<const Library> library,
                                                      std::shared_ptr<const cuda::Device> device,
                                                      const UniqueId& id, std::uint32_t rank,
                                                      std::uint32_t size, Patience& patience);
  /// Aborts: what other members have not got yet of this one's broadcasts never comes to them.
  /// Whoever sent something destroys it only after the others have said that they have all of it;
  /// that its own stream has come to the end says nothing of them. It waits for the GPU, and so
  /// perhaps for kernels of the engine's.
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  /// Queues: `bytes` of the root's buffer to the same of every member. All call in the same order.
  Result<> broadcast(cuda::Address buffer, std::uint64_t bytes, std::uint32_t root,
                     cuda::Stream& stream, Patience& patience);
  /// Waits until a mark has been reached, or a member is lost, or patience is over.
  Result<> reached(const cuda::Event& mark, Patience& patience);

  [[nodiscard]] std::uint32_t rank() const noexcept { return rank_; }
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }

 private:
  Communicator(std::shared_ptr<const Library> library, std::shared_ptr<const cuda::Device> device,
               std::uint32_t rank, std::uint32_t size)
      : library_(std::move(library)), device_(std::move(device)), rank_(rank), size_(size) {}
  /// Waits for what a call began.
  Result<> settled(Status status, const char* call, Patience& patience);
  [[nodiscard]] Result<> broken(Status status, const char* call) const;

  std::shared_ptr<const Library> library_;
  std::shared_ptr<const cuda::Device> device_;
  std::uint32_t rank_;
  std::uint32_t size_;
  Comm comm_ = nullptr;
};

}  // namespace membrain::nccl
