#include "base/copy.h"

#include <gtest/gtest.h>

#include <tuple>
#include <vector>

namespace membrain {
namespace {

constexpr std::byte kUntouched{0xee};

std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 131 + (i >> 8));
  return bytes;
}

/// Size of the copy, and how far its destination and its source lie off a line.
using Shape = std::tuple<std::size_t, std::size_t, std::size_t>;

class Copy : public ::testing::TestWithParam<Shape> {
 protected:
  /// The destination has a margin, which must stay as it was.
  void expect_delivered() const {
    for (std::size_t i = 0; i < target_.size(); ++i) {
      const bool inside = i >= to_ && i - to_ < size_;
      ASSERT_EQ(target_[i], inside ? source_[from_ + i - to_] : kUntouched) << i;
    }
  }
  [[nodiscard]] std::byte* to() { return target_.data() + to_; }
  [[nodiscard]] std::span<const std::byte> from() const {
    return std::span(source_).subspan(from_, size_);
  }

  const std::size_t size_ = std::get<0>(GetParam());
  const std::size_t to_ = std::get<1>(GetParam());
  const std::size_t from_ = std::get<2>(GetParam());
  const std::vector<std::byte> source_ = pattern(size_ + 128);
  std::vector<std::byte> target_ = std::vector<std::byte>(size_ + 128, kUntouched);
};

TEST_P(Copy, DeliversEveryByteAndTouchesNoOther) {
  for (const CopyWay way : {CopyWay::cached, CopyWay::streamed}) {
    target_.assign(target_.size(), kUntouched);
    copy_bytes(to(), from(), way);
    expect_delivered();
  }
}

TEST_P(Copy, HashesWhatItDelivers) {
  for (const CopyWay way : {CopyWay::cached, CopyWay::streamed}) {
    target_.assign(target_.size(), kUntouched);
    HashedCopy copy(way);
    copy.add(to(), from());
    expect_delivered();
    EXPECT_EQ(copy.finish(), checksum(from()));
  }
}

INSTANTIATE_TEST_SUITE_P(OfManyShapes, Copy,
                         ::testing::Combine(::testing::Values(0u, 1u, 63u, 64u, 65u, 127u, 4095u,
                                                              4096u, 4097u, 70'000u, 1u << 20),
                                            ::testing::Values(0u, 1u, 16u, 63u),
                                            ::testing::Values(0u, 5u, 32u)));

TEST(HashedCopyOfPieces, IsHashedAsTheConcatenation) {
  const std::vector<std::byte> source = pattern(300'000);
  std::vector<std::byte> target(source.size());
  HashedCopy copy(CopyWay::streamed);
  const std::span<const std::byte> from(source);
  std::size_t at = 0;
  for (const std::size_t size : {1u, 70u, 8000u, 0u, 100'000u, 191'929u}) {
    copy.add(target.data() + at, from.subspan(at, size));
    at += size;
  }
  ASSERT_EQ(at, source.size());
  EXPECT_EQ(target, source);
  EXPECT_EQ(copy.finish(), checksum(source));
}

}  // namespace
}  // namespace membrain
