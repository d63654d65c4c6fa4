// Frame pool: memory of coroutine frames, used again.
#pragma once

#include <cstddef>

namespace membrain {

/// Takes a frame's memory from what this thread gave back earlier, by size class, else from the
/// heap. Frames come and go with every message: on the heap they would be most of what a transfer
/// costs there.
///
/// Threads  Any. A frame may be given back on another thread than it was taken on; it is kept there
///          then. Bound: kKeptPerClass frames a class and thread; more, and larger ones than
///          kLargestBytes, go to the heap. Sanitized builds keep none: a frame that is used after
///          its end is to be seen.
/// Cost     A few instructions; no lock, and no allocation once enough were given back.
class FramePool {
 public:
  static constexpr std::size_t kStepBytes = 64;  ///< size classes are multiples of it
  static constexpr std::size_t kLargestBytes = 4096;
  static constexpr std::size_t kKeptPerClass = 64;

  [[nodiscard]] static void* take(std::size_t bytes);
  static void give(void* frame, std::size_t bytes) noexcept;
};

/// A promise that inherits it has its coroutine's frame in the pool.
struct PooledFrame {
  static void* operator new(std::size_t bytes) { return FramePool::take(bytes); }
  static void operator delete(void* frame, std::size_t bytes) noexcept {
    FramePool::give(frame, bytes);
  }
};

}  // namespace membrain
