// Servers: where a shard may be led.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "transport/fabric.h"

namespace membrain {

/// The addresses in a text like "one:9201,two:9201", and which of them is to be tried next. One
/// that leads stays; one that does not answer, or says that it does not lead, makes way.
class Servers {
 public:
  static constexpr std::size_t kMost = 16;
  /// For one of several: the others wait behind it.
  static constexpr Duration kPatience = std::chrono::seconds(1);
  /// For one that fell silent, and is named as the leader all the same: its lease may not be over.
  static constexpr Duration kShortPatience = std::chrono::milliseconds(250);

  explicit Servers(std::string_view text) {
    while (!text.empty() && addresses_.size() < kMost) {
      const std::size_t comma = std::min(text.find(','), text.size());
      if (comma > 0) addresses_.emplace_back(text.substr(0, comma));
      text.remove_prefix(std::min(comma + 1, text.size()));
    }
    if (addresses_.empty()) addresses_.emplace_back();
  }

  [[nodiscard]] const Address& current() const noexcept { return addresses_[at_]; }
  void next() noexcept { at_ = (at_ + 1) % addresses_.size(); }
  /// This one is to be tried last.
  void leave(const Address& address) noexcept {
    if (current() == address) next();
  }
  [[nodiscard]] std::size_t count() const noexcept { return addresses_.size(); }
  [[nodiscard]] auto begin() const noexcept { return addresses_.begin(); }
  [[nodiscard]] auto end() const noexcept { return addresses_.end(); }

  /// Until when to wait for the present one.
  [[nodiscard]] TimePoint patience(TimePoint now, TimePoint deadline) const noexcept {
    return count() == 1 ? deadline : std::min(deadline, now + kPatience);
  }
  /// Until when to wait for a leader, if `silent` was silent the last time.
  [[nodiscard]] static TimePoint patience_with(const Address& leader, const Address& silent,
                                               TimePoint now, TimePoint deadline) noexcept {
    return std::min(deadline, now + (leader == silent ? kShortPatience : kPatience));
  }

 private:
  std::vector<Address> addresses_;
  std::size_t at_ = 0;
};

}  // namespace membrain
