// Slab: many records of one kind, named by 32-bit references that never move.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <vector>

#include "base/check.h"
#include "server/reserved_memory.h"

namespace membrain {

/// A record's place in its slab.
using Ref = std::uint32_t;
inline constexpr Ref kNoRef = 0xffffffff;

/// Records side by side in address space for all that there may ever be: growing moves nothing and
/// allocates nothing, so it never pauses.
///
/// Ownership  Owns the records. A reference is reused after `give`; who keeps one keeps its record.
template <class T>
class Slab {
 public:
  static_assert(std::is_trivially_destructible_v<T>);
  static constexpr std::size_t kMaxRecords = std::size_t{1} << 30;
  static constexpr std::size_t kLeastRecords = std::size_t{1}
                                               << 20;  ///< if the system gives little
  /// Up to here a slab is small: it takes no page that it does not fill. Beyond, half a huge page
  /// that waits for records is nothing.
  static constexpr std::size_t kSmallRecords = std::size_t{1} << 21;

  Slab()
      : memory_(kMaxRecords * sizeof(T), kLeastRecords * sizeof(T)),
        records_(static_cast<T*>(memory_.data())) {}

  /// A record as a new `T` is. Those given back are used first, so references stay dense.
  [[nodiscard]] Ref take() {
    if (!free_.empty()) {
      const Ref ref = free_.back();
      free_.pop_back();
      return ref;
    }
    check((std::size_t{end_} + 1) * sizeof(T) <= memory_.bytes(), "a slab is full");
    if (end_ >= kSmallRecords) grow_large();
    new (records_ + end_) T{};
    return end_++;
  }
  void give(Ref ref) {
    (*this)[ref] = T{};
    free_.push_back(ref);
  }

  [[nodiscard]] T& operator[](Ref ref) noexcept { return records_[ref]; }
  [[nodiscard]] const T& operator[](Ref ref) const noexcept { return records_[ref]; }
  /// All lines of the record: many begin in one and end in the next.
  void prefetch(Ref ref) const noexcept {
    const auto* record = reinterpret_cast<const std::byte*>(records_ + ref);
    __builtin_prefetch(record);
    __builtin_prefetch(record + sizeof(T) - 1);
  }

  /// One past the highest reference that was ever taken: for walks over all records.
  [[nodiscard]] Ref end() const noexcept { return end_; }
  [[nodiscard]] std::size_t count() const noexcept { return end_ - free_.size(); }
  /// Of memory in use, to the page.
  [[nodiscard]] std::size_t bytes() const noexcept {
    const std::size_t page = end_ > kSmallRecords ? ReservedMemory::kHugePage : 4096;
    return (end_ * sizeof(T) + page - 1) / page * page + free_.capacity() * sizeof(Ref);
  }

 private:
  static constexpr std::size_t kRecordsPerMerge = 4096;

  /// New pages are huge from now on; the small ones become so one by one: 0.2 ms now and then.
  void grow_large() noexcept {
    if (end_ == kSmallRecords) memory_.prefer_huge_pages();
    if (end_ % kRecordsPerMerge != 0 || merged_bytes_ >= kSmallRecords * sizeof(T)) return;
    memory_.merge_pages(merged_bytes_);
    merged_bytes_ += ReservedMemory::kHugePage;
  }

  ReservedMemory memory_;
  T* records_;
  std::vector<Ref> free_;
  Ref end_ = 0;
  std::size_t merged_bytes_ = 0;  ///< from the beginning on
};

}  // namespace membrain
