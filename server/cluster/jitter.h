// Jitter: waits that differ from server to server, so that they do not all come at once.
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace membrain {

class Jitter {
 public:
  explicit Jitter(std::uint64_t seed) noexcept : state_(seed | 1) {}

  /// Between a half and all of `most`.
  [[nodiscard]] Duration draw(Duration most) noexcept {
    state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17;  // xorshift64
    const auto part = static_cast<std::int64_t>((state_ >> 32) % 1024);
    return most / 2 + most / 2 * part / 1024;
  }

 private:
  std::uint64_t state_;
};

}  // namespace membrain
