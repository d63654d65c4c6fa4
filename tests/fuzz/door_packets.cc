// What is said at a node's door: 24 bytes, or nothing.
#include <algorithm>

#include "protocol/door.h"
#include "tests/fuzz/target.h"

namespace membrain::fuzz {

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> bytes = bytes_of(data, size);
  const auto packet = wire::DoorFrame::decode(bytes);
  if (!packet) return 0;
  check(std::ranges::equal(packet->encode(), bytes),
        "a packet changed between reading and writing");
  return 0;
}

}  // namespace membrain::fuzz
