// Gather and scatter: every byte to its place, and no other.
#include "base/gather.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace membrain {
namespace {

struct Stretch {
  std::byte* data;
  std::size_t size;
};

/// Runs of all kinds of sizes and alignments, back to front in `memory`, with gaps.
std::vector<Stretch> runs_in(std::vector<std::byte>& memory) {
  const std::size_t sizes[] = {0, 1, 63, 64, 65, 511, 1023, 1024, 1025, 4096, 5000, 16384};
  std::vector<Stretch> runs;
  std::size_t at = 3;
  for (const std::size_t size : sizes) {
    runs.push_back({memory.data() + at, size});
    at += size + 7;
  }
  EXPECT_LE(at, memory.size());
  std::reverse(runs.begin(), runs.end());
  return runs;
}

std::size_t total(const std::vector<Stretch>& runs) {
  std::size_t bytes = 0;
  for (const Stretch& run : runs) bytes += run.size;
  return bytes;
}

TEST(Gather, JoinsRunsInTheirOrder) {
  std::vector<std::byte> memory(40'000);
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<std::byte>(i * 31);
  const std::vector<Stretch> runs = runs_in(memory);
  std::vector<std::byte> expected;
  for (const Stretch& run : runs) expected.insert(expected.end(), run.data, run.data + run.size);
  std::vector<std::byte> joined(total(runs));
  gather(joined.data(), std::span<const Stretch>(runs));
  EXPECT_EQ(joined, expected);
}

TEST(Gather, ScatterIsItsInverseAndTouchesNothingElse) {
  std::vector<std::byte> memory(40'000, std::byte{0xee});
  const std::vector<Stretch> runs = runs_in(memory);
  std::vector<std::byte> from(total(runs));
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i * 17 % 200);
  scatter(std::span<const Stretch>(runs), from.data());
  std::vector<std::byte> back(from.size());
  gather(back.data(), std::span<const Stretch>(runs));
  EXPECT_EQ(back, from);
  const auto untouched = std::count(memory.begin(), memory.end(), std::byte{0xee});
  EXPECT_EQ(static_cast<std::size_t>(untouched), memory.size() - from.size());
}

}  // namespace
}  // namespace membrain
