// Pool: objects that are used again, with the memory that they hold.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace membrain {

/// Lends objects and takes them back as they are: whoever takes one clears it, and what its vectors
/// have grown to stays.
///
/// Ownership  Outlives its leases. Bound: at most `kept` objects wait for their next use.
/// Threads    One.
/// Cost       No allocation once as many objects were given back as are in use at a time.
template <class T>
class Pool {
 public:
  /// The right to use an object until it is destroyed. Move-only.
  class Lease {
   public:
    Lease(Pool& pool, std::unique_ptr<T> object) noexcept
        : pool_(&pool), object_(std::move(object)) {}
    Lease(Lease&&) noexcept = default;
    Lease& operator=(Lease&&) = delete;
    ~Lease() {
      if (object_) pool_->give(std::move(object_));
    }
    [[nodiscard]] T& operator*() const noexcept { return *object_; }
    [[nodiscard]] T* operator->() const noexcept { return object_.get(); }

   private:
    Pool* pool_;
    std::unique_ptr<T> object_;
  };

  explicit Pool(std::size_t kept) { free_.reserve(kept); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  [[nodiscard]] Lease take() {
    if (free_.empty()) return {*this, std::make_unique<T>()};
    std::unique_ptr<T> object = std::move(free_.back());
    free_.pop_back();
    return {*this, std::move(object)};
  }

 private:
  void give(std::unique_ptr<T> object) noexcept {
    if (free_.size() < free_.capacity()) free_.push_back(std::move(object));
  }

  std::vector<std::unique_ptr<T>> free_;
};

}  // namespace membrain
