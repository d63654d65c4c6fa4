// The members of a group as NCCL sees them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

#include "membrain/result.h"
#include "transport/cuda/stream.h"
#include "transport/nccl/library.h"

namespace membrain::nccl {

/// How long to wait for others. NCCL itself would wait for ever.
struct Patience {
  std::chrono::steady_clock::time_point until;
  const std::atomic<bool>* stop = nullptr;  ///< or until this is set

  [[nodiscard]] bool over() const noexcept {
    return stop->load() || std::chrono::steady_clock::now() >= until;
  }
};

/// One member's end of a communicator, non-blocking in NCCL's words: its calls return at once, and
/// what they began is asked after here.
///
/// Ownership  Move nothing: destroying it aborts whatever is under way on it. NCCL keeps memory on
///            the GPU for as long as it lives, some hundreds of MiB.
/// Threads    One, for its whole life. It waits: never an engine's or a loop's.
class Communicator {
 public:
  /// Waits for all `size` members with the same id. `timed_out` when patience is over.
  static Result<std::unique_ptr<Communicator>> create(std::shared_ptr<const Library> library,
                                                      std::shared_ptr<const cuda::Device> device,
                                                      const UniqueId& id, std::uint32_t rank,
                                                      std::uint32_t size, const Patience& patience);
  /// Aborts. It waits for the GPU, and so perhaps for kernels of the engine's.
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  /// Queues: `bytes` of the root's buffer to the same of every member. All call in the same order.
  Result<> broadcast(cuda::Address buffer, std::uint64_t bytes, std::uint32_t root,
                     cuda::Stream& stream, const Patience& patience);
  /// Waits until a mark has been reached, or a member is lost, or patience is over.
  Result<> reached(const cuda::Event& mark, const Patience& patience);

  [[nodiscard]] std::uint32_t rank() const noexcept { return rank_; }
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }

 private:
  Communicator(std::shared_ptr<const Library> library, std::shared_ptr<const cuda::Device> device,
               std::uint32_t rank, std::uint32_t size)
      : library_(std::move(library)), device_(std::move(device)), rank_(rank), size_(size) {}
  /// Waits for what a call began.
  Result<> settled(Status status, const char* call, const Patience& patience);
  [[nodiscard]] Result<> broken(Status status, const char* call) const;

  std::shared_ptr<const Library> library_;
  std::shared_ptr<const cuda::Device> device_;
  std::uint32_t rank_;
  std::uint32_t size_;
  Comm comm_ = nullptr;
};

}  // namespace membrain::nccl
