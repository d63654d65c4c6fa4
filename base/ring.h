// Ring: a queue in one run of memory, used again.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace membrain {

/// First in, first out. Grows by doubling and keeps what it has grown to (a std::deque frees and
/// allocates as it moves along).
///
/// Threads  One. Cost: no allocation below the largest size so far.
template <class T>
class Ring {
 public:
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] T& front() noexcept { return places_[first_]; }

  void push_back(T value) {
    if (size_ == places_.size()) grow();
    places_[(first_ + size_) & (places_.size() - 1)] = std::move(value);
    ++size_;
  }
  /// The oldest, of one that is not empty.
  T pop_front() noexcept {
    T value = std::move(places_[first_]);
    first_ = (first_ + 1) & (places_.size() - 1);
    --size_;
    return value;
  }

 private:
  void grow() {
    constexpr std::size_t kFirst = 16;
    std::vector<T> larger(places_.empty() ? kFirst : places_.size() * 2);
    for (std::size_t i = 0; i < size_; ++i) {
      larger[i] = std::move(places_[(first_ + i) & (places_.size() - 1)]);
    }
    places_.swap(larger);
    first_ = 0;
  }

  std::vector<T> places_;  ///< none, or a power of two
  std::size_t first_ = 0;
  std::size_t size_ = 0;
};

}  // namespace membrain
