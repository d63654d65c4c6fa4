// Completion: the one thing that coroutines wait for.
#pragma once

#include <coroutine>
#include <cstdint>
#include <utility>

#include "base/check.h"
#include "base/ring.h"
#include "membrain/result.h"

namespace membrain {

/// Coroutines that may go on; the loop resumes them, never a callback. Loop thread only.
class ReadyQueue {
 public:
  void push(std::coroutine_handle<> coroutine) { queue_.push_back(coroutine); }
  /// Resumes everything that was ready when it was called. True if there was anything.
  bool run() {
    const std::size_t count = queue_.size();
    for (std::size_t i = 0; i < count; ++i) {
      const std::coroutine_handle<> next = queue_.pop_front();
      next.resume();
    }
    return count != 0;
  }
  [[nodiscard]] bool empty() const noexcept { return queue_.empty(); }

 private:
  Ring<std::coroutine_handle<>> queue_;
};

/// Ends when `finish` has been called as often as expected; keeps the first failure.
///
/// Ownership  Whoever waits owns it. Destroying one that is still expected to finish ends the
///            process.
/// Threads    Loop thread only.
/// Cost       No allocation.
class Completion {
 public:
  explicit Completion(ReadyQueue& ready, std::uint32_t expected = 1) noexcept
      : ready_(ready), outstanding_(expected) {}
  Completion(const Completion&) = delete;
  Completion& operator=(const Completion&) = delete;
  ~Completion() { check(outstanding_ == 0, "a Completion was destroyed before it ended"); }

  /// Expects `more` further calls of `finish`. Before the last one has happened.
  void expect(std::uint32_t more = 1) noexcept { outstanding_ += more; }

  void finish(const Result<>& outcome) noexcept {
    check(outstanding_ > 0, "a Completion was finished too often");
    if (!outcome && outcome_) outcome_ = outcome;
    if (--outstanding_ == 0 && waiter_) ready_.push(waiter_);
  }
  [[nodiscard]] bool done() const noexcept { return outstanding_ == 0; }
  [[nodiscard]] std::uint32_t outstanding() const noexcept { return outstanding_; }
  /// The first failure, or success. Meaningful when done.
  [[nodiscard]] const Result<>& outcome() const noexcept { return outcome_; }

  /// One waiter.
  [[nodiscard]] bool await_ready() const noexcept { return done(); }
  void await_suspend(std::coroutine_handle<> waiter) noexcept {
    check(!waiter_, "a Completion has one waiter");
    waiter_ = waiter;
  }
  Result<> await_resume() noexcept {
    waiter_ = nullptr;
    return outcome_;
  }

 private:
  ReadyQueue& ready_;
  std::uint32_t outstanding_;
  std::coroutine_handle<> waiter_;
  Result<> outcome_;
};

/// A bound on what is under way at once: `co_await window.take(n)`, later `window.give(n)`. First
/// come, first served. A request larger than the whole window is served when it is alone.
///
/// Cost  No allocation: who waits is a link in its own coroutine's frame.
class CreditWindow {
 public:
  CreditWindow(ReadyQueue& ready, std::uint64_t credits) noexcept
      : ready_(ready), size_(credits), left_(credits) {}
  CreditWindow(const CreditWindow&) = delete;
  CreditWindow& operator=(const CreditWindow&) = delete;
  ~CreditWindow() { check(first_ == nullptr, "a CreditWindow was destroyed under a waiter"); }

  class Take {
   public:
    Take(CreditWindow& window, std::uint64_t credits) noexcept
        : window_(window), credits_(credits) {}
    [[nodiscard]] bool await_ready() noexcept {
      if (window_.first_ != nullptr || !window_.fits(credits_)) return false;
      window_.left_ -= credits_;
      return true;
    }
    void await_suspend(std::coroutine_handle<> waiter) noexcept {
      waiter_ = waiter;
      Take** last = &window_.first_;
      while (*last != nullptr) last = &(*last)->next_;
      *last = this;
    }
    void await_resume() const noexcept {}

   private:
    friend class CreditWindow;
    CreditWindow& window_;
    std::uint64_t credits_;
    std::coroutine_handle<> waiter_;
    Take* next_ = nullptr;
  };

  [[nodiscard]] Take take(std::uint64_t credits) noexcept {
    return {*this, credits < size_ ? credits : size_};
  }
  /// Returns what `take(credits)` took.
  void give(std::uint64_t credits) noexcept {
    left_ += credits < size_ ? credits : size_;
    check(left_ <= size_, "more credits were returned than taken");
    while (first_ != nullptr && fits(first_->credits_)) {
      const Take* next = std::exchange(first_, first_->next_);
      left_ -= next->credits_;
      ready_.push(next->waiter_);
    }
  }
  [[nodiscard]] std::uint64_t left() const noexcept { return left_; }
  [[nodiscard]] bool idle() const noexcept { return left_ == size_ && first_ == nullptr; }

 private:
  [[nodiscard]] bool fits(std::uint64_t credits) const noexcept { return credits <= left_; }

  ReadyQueue& ready_;
  std::uint64_t size_;
  std::uint64_t left_;
  Take* first_ = nullptr;  ///< of those that wait
};

}  // namespace membrain
