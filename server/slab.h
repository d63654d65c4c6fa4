// Slab: many records of one kind, named by 32-bit references that never move.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/check.h"

namespace membrain {

/// A record's place in its slab.
using Ref = std::uint32_t;
inline constexpr Ref kNoRef = 0xffffffff;

/// Records in chunks: growing moves nothing, so it costs one chunk and never a pause.
///
/// Ownership  Owns the records. A reference is reused after `give`; who keeps one keeps its record.
template <class T>
class Slab {
 public:
  static constexpr std::uint32_t kChunkBits = 11;
  static constexpr std::uint32_t kChunkRecords = 1U << kChunkBits;

  /// A record as a new `T` is. Those given back are used first, so references stay dense.
  [[nodiscard]] Ref take() {
    if (!free_.empty()) {
      const Ref ref = free_.back();
      free_.pop_back();
      return ref;
    }
    check(end_ < kNoRef, "a slab is full");
    if (end_ >> kChunkBits == chunks_.size()) {
      chunks_.push_back(std::make_unique<T[]>(kChunkRecords));
    }
    return end_++;
  }
  void give(Ref ref) {
    (*this)[ref] = T{};
    free_.push_back(ref);
  }

  [[nodiscard]] T& operator[](Ref ref) noexcept {
    return chunks_[ref >> kChunkBits][ref & (kChunkRecords - 1)];
  }
  [[nodiscard]] const T& operator[](Ref ref) const noexcept {
    return chunks_[ref >> kChunkBits][ref & (kChunkRecords - 1)];
  }
  void prefetch(Ref ref) const noexcept { __builtin_prefetch(&(*this)[ref]); }

  /// One past the highest reference that was ever taken: for walks over all records.
  [[nodiscard]] Ref end() const noexcept { return end_; }
  [[nodiscard]] std::size_t count() const noexcept { return end_ - free_.size(); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return chunks_.size() * kChunkRecords * sizeof(T) + free_.capacity() * sizeof(Ref);
  }

 private:
  std::vector<std::unique_ptr<T[]>> chunks_;
  std::vector<Ref> free_;
  Ref end_ = 0;
};

}  // namespace membrain
