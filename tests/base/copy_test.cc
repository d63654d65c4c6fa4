#include "base/copy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <new>
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

TEST(HashedCopyOfPieces, OfManyShortOnesIsHashedAsTheConcatenation) {
  const std::vector<std::byte> from = pattern(100'000);
  for (const CopyWay way : {CopyWay::cached, CopyWay::streamed}) {
    for (const std::size_t piece : {1u, 63u, 256u, 320u, 1000u, 4095u, 4096u, 5000u}) {
      std::vector<std::byte> to(from.size() + 64);
      HashedCopy copy(way);
      for (std::size_t at = 0; at < from.size(); at += piece) {
        copy.add(to.data() + at, std::span(from).subspan(at, std::min(piece, from.size() - at)));
      }
      EXPECT_EQ(copy.finish(), checksum(from)) << piece;
      to.resize(from.size());
      EXPECT_EQ(to, from) << piece;
    }
  }
}

/// As in a coroutine's frame, which GCC 12 does not align to more than 16 bytes.
TEST(HashedCopyOfPieces, LiesAnywhere) {
  const std::vector<std::byte> from = pattern(20'000);
  alignas(64) std::array<std::byte, sizeof(HashedCopy) + 64> room;
  for (std::size_t astray = 0; astray < 64; astray += 16) {
    std::vector<std::byte> to(from.size());
    auto* copy = new (room.data() + astray) HashedCopy(CopyWay::streamed);
    copy->add(to.data(), from);
    EXPECT_EQ(copy->finish(), checksum(from)) << astray;
    copy->~HashedCopy();
  }
}

}  // namespace
}  // namespace membrain
