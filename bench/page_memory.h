// Memory that begins on a page, as engines' KV caches and arenas do: copies between runs of memory
// of unlike alignment cost up to a third more, which is not what a transfer is measured for.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace membrain {

template <class T>
struct PageAligned {
  using value_type = T;
  static constexpr std::align_val_t kPage{4096};

  PageAligned() = default;
  template <class Other>
  PageAligned(const PageAligned<Other>&) noexcept {}  // NOLINT: what allocators must offer
  T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), kPage));
  }
  void deallocate(T* memory, std::size_t) noexcept { ::operator delete(memory, kPage); }
  bool operator==(const PageAligned&) const noexcept { return true; }
};

using PageMemory = std::vector<std::byte, PageAligned<std::byte>>;

}  // namespace membrain
