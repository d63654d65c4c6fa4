// How an operation under way is asked to stop.
#pragma once

#include <functional>
#include <utility>

namespace membrain {

/// Set once by whoever takes an operation back; the operation says what is to be done then.
///
/// Threads  The data loop only: other threads post to its inbox.
class CancelToken {
 public:
  [[nodiscard]] bool requested() const noexcept { return requested_; }
  void request() {
    if (std::exchange(requested_, true) || !on_request_) return;
    on_request_();
  }
  /// The operation clears it (nullptr) before it ends.
  void on_request(std::function<void()> call) { on_request_ = std::move(call); }

 private:
  bool requested_ = false;
  std::function<void()> on_request_;
};

}  // namespace membrain
