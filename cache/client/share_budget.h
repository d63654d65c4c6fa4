// ShareBudget: how much extra work is allowed, as a share of what goes well. Pure.
#pragma once

#include <algorithm>

#include "base/clock.h"

namespace membrain {

/// A bucket of tokens. What goes well earns a share; extra work (retries, hedges) spends. So extra
/// work is at most that share of the good work in the long run, and when everything fails it ends:
/// a cluster in trouble is not asked more because it is in trouble. (As gRPC's retry throttling and
/// Finagle's RetryBudget do; the trickle is Finagle's, so that a quiet client may try at all.)
class ShareBudget {
 public:
  struct Terms {
    double share;           ///< of what is earned, 0 to 1
    double most;            ///< tokens kept, and there at the beginning
    double per_second = 0;  ///< tokens that come by themselves
  };

  explicit ShareBudget(Terms terms) noexcept : terms_(terms), left_(terms.most) {}

  /// So much work went well.
  void earn(double work) noexcept { left_ = std::min(terms_.most, left_ + work * terms_.share); }
  /// False, and nothing is spent, if there is not enough.
  [[nodiscard]] bool spend(double work, TimePoint now) noexcept {
    if (now > trickled_) {
      const double seconds = std::chrono::duration<double>(now - trickled_).count();
      left_ = std::min(terms_.most, left_ + seconds * terms_.per_second);
      trickled_ = now;
    }
    if (work > left_) return false;
    left_ -= work;
    return true;
  }
  [[nodiscard]] double left() const noexcept { return left_; }

 private:
  Terms terms_;
  double left_;
  TimePoint trickled_{};
};

}  // namespace membrain
