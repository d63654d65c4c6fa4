#include "cache/node/size_classes.h"

#include <algorithm>
#include <array>

namespace membrain {

namespace {

constexpr std::size_t kMaxClasses = 64;

struct Classes {
  std::array<std::uint32_t, kMaxClasses> bytes{};
  std::size_t count = 0;
};

consteval Classes make_classes() {
  Classes classes;
  for (std::uint32_t power = kPageBytes; power <= kLargestSlotBytes; power *= 2) {
    for (std::uint32_t quarters = 4; quarters < 8; ++quarters) {
      const std::uint32_t exact = power / 4 * quarters;
      const std::uint32_t bytes = (exact + kPageBytes - 1) / kPageBytes * kPageBytes;
      const bool repeated = classes.count > 0 && classes.bytes[classes.count - 1] >= bytes;
      if (bytes > kLargestSlotBytes || repeated) continue;
      classes.bytes[classes.count++] = bytes;
    }
  }
  return classes;
}

constexpr Classes kClasses = make_classes();

}  // namespace

std::span<const std::uint32_t> size_classes() noexcept {
  return std::span(kClasses.bytes).first(kClasses.count);
}

std::optional<std::size_t> size_class_of(std::uint32_t length) noexcept {
  if (length == 0 || length > kLargestSlotBytes) return std::nullopt;
  const auto classes = size_classes();
  const auto found = std::lower_bound(classes.begin(), classes.end(), length);
  return static_cast<std::size_t>(found - classes.begin());
}

}  // namespace membrain
