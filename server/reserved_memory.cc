#include "server/reserved_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/check.h"

namespace membrain {

ReservedMemory::ReservedMemory(std::size_t bytes, std::size_t least) : bytes_(bytes) {
  for (;; bytes_ /= 2) {
    data_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data_ != MAP_FAILED) return;
    check(bytes_ / 2 >= least, "no memory for the catalog");
  }
}

ReservedMemory::~ReservedMemory() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

// Where a kernel has no huge pages, or none to give, it works all the same.

void ReservedMemory::prefer_huge_pages() noexcept {
  advise(0, bytes_, MADV_HUGEPAGE);
}

void ReservedMemory::merge_pages(std::size_t offset) noexcept {
  constexpr int kCollapse = 25;  // MADV_COLLAPSE: Linux 6.1, not yet in Debian 12's headers
  advise(offset, kHugePage, kCollapse);
}

/// For the whole huge pages that begin in these bytes.
void ReservedMemory::advise(std::size_t offset, std::size_t bytes, int advice) noexcept {
  const auto base = reinterpret_cast<std::uintptr_t>(data_);
  const auto up = [](std::uintptr_t at) { return (at + kHugePage - 1) / kHugePage * kHugePage; };
  const std::uintptr_t begin = up(base + offset);
  const std::uintptr_t end =
      std::min(up(base + offset + bytes), (base + bytes_) / kHugePage * kHugePage);
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}

}  // namespace membrain
