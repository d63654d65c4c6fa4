#include "transport/frame_pool.h"

#include <array>
#include <cstdint>
#include <new>
#include <utility>

namespace membrain {

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kPooled = false;
#else
constexpr bool kPooled = true;
#endif

constexpr std::size_t kClasses = FramePool::kLargestBytes / FramePool::kStepBytes;

struct FreeFrame {
  FreeFrame* next;
};

struct FreeList {
  FreeFrame* first;
  std::size_t count;
};

/// What this thread keeps. Trivial, so that it can be touched until the thread's very end.
struct Kept {
  std::array<FreeList, kClasses> lists;
  bool swept_at_exit;
  bool closed;  ///< the thread is ending: nothing is kept any more
};

constinit thread_local Kept kept{};

/// Frees what a thread keeps when it ends.
struct Sweeper {
  Sweeper() noexcept { kept.swept_at_exit = true; }
  ~Sweeper() {
    kept.closed = true;
    for (FreeList& list : kept.lists) {
      while (list.first != nullptr) {
        ::operator delete(std::exchange(list.first, list.first->next));
      }
      list.count = 0;
    }
  }
};

void sweep_at_exit() noexcept {
  static thread_local const Sweeper sweeper;
  static_cast<void>(sweeper);
}

constexpr std::size_t class_of(std::size_t bytes) noexcept {
  return (bytes - 1) / FramePool::kStepBytes;
}

}  // namespace

void* FramePool::take(std::size_t bytes) {
  if (!kPooled || bytes > kLargestBytes) return ::operator new(bytes);
  const std::size_t size_class = class_of(bytes);
  FreeList& list = kept.lists[size_class];
  if (list.first == nullptr) return ::operator new((size_class + 1) * kStepBytes);
  --list.count;
  return std::exchange(list.first, list.first->next);
}

void FramePool::give(void* frame, std::size_t bytes) noexcept {
  if (!kPooled || bytes > kLargestBytes) return ::operator delete(frame);
  FreeList& list = kept.lists[class_of(bytes)];
  if (list.count == kKeptPerClass || kept.closed) return ::operator delete(frame);
  if (!kept.swept_at_exit) sweep_at_exit();
  list.first = new (frame) FreeFrame{list.first};
  ++list.count;
}

}  // namespace membrain
