// ReservedMemory: a run of zeroed memory that is as long as it may ever be, and costs what is used.
#pragma once

#include <cstddef>
#include <utility>

namespace membrain {

/// Address space from the system: pages come, zeroed, when they are first touched.
///
/// Ownership  Owns the mapping. Move-only.
/// Cost       One system call to make and one to free. The first touch of a page is a fault; of a
///            huge page one of 2 MiB, about 0.1 ms.
/// Errors     A system that promises no more than it has gives less address space: half, a quarter,
///            down to `least`. Ends the process when it refuses even that.
class ReservedMemory {
 public:
  static constexpr std::size_t kHugePage = std::size_t{2} << 20;

  ReservedMemory() = default;
  ReservedMemory(std::size_t bytes, std::size_t least);
  ReservedMemory(ReservedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  ReservedMemory& operator=(ReservedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~ReservedMemory();

  [[nodiscard]] void* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  /// Asks for huge pages wherever none has been touched yet: what is large and read at random
  /// spends most of a miss on finding the page otherwise.
  void prefer_huge_pages() noexcept;
  /// Makes one huge page of the small ones at `offset`, which are touched already. Costs a copy.
  void merge_pages(std::size_t offset) noexcept;

 private:
  void advise(std::size_t offset, std::size_t bytes, int advice) noexcept;

  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace membrain
