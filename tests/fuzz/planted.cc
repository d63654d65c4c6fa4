// A target with bugs on purpose: shows that replay and tools/fuzz.sh see one (replay_test.py).
#include <cstdlib>

#include "tests/fuzz/target.h"

namespace membrain::fuzz {

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  if (size >= 3 && data[0] == 'B' && data[1] == 'O' && data[2] == 'O') std::abort();
  // Looks one byte too far, as a decoder does that forgets to ask how much is left.
  if (data[0] == '>') static_cast<void>(*static_cast<const volatile std::uint8_t*>(data + size));
  return 0;
}

}  // namespace membrain::fuzz
