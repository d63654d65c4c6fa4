#include "cache/client/circuit.h"

#include <algorithm>

namespace membrain {

namespace {

/// splitmix64: the next of a sequence of well-mixed numbers.
std::uint64_t next_random(std::uint64_t& state) noexcept {
  std::uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

}  // namespace

void Circuit::succeeded() noexcept {
  closed_ = true;
  failures_ = 0;
}

void Circuit::failed(TimePoint now) noexcept {
  constexpr std::uint32_t kMaxDoublings = 16;
  closed_ = false;
  const Duration whole =
      std::min<Duration>(longest_, kFirstDelay * (1LL << std::min(failures_, kMaxDoublings)));
  ++failures_;
  // Between half of the delay and all of it.
  const auto half = static_cast<std::uint64_t>(whole.count() / 2);
  retry_at_ = now + whole / 2 + Duration(next_random(random_) % (half + 1));
}

}  // namespace membrain
