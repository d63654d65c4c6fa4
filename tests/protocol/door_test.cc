#include "protocol/door.h"

#include <gtest/gtest.h>

#include <vector>

namespace membrain::wire {
namespace {

TEST(DoorFrame, ComesBackAsItWasSent) {
  for (const auto kind : {DoorFrame::Kind::read, DoorFrame::Kind::write, DoorFrame::Kind::here,
                          DoorFrame::Kind::refused}) {
    const DoorFrame sent{kind, NodeId{0x01020304}, Incarnation{9}, WriterId{1ULL << 61 | 7}};
    EXPECT_EQ(DoorFrame::decode(sent.encode()), sent);
  }
}

TEST(DoorFrame, BeginsWithItsMagic) {
  const auto bytes = DoorFrame{}.encode();
  EXPECT_EQ(bytes[0], std::byte{'M'});
  EXPECT_EQ(bytes[3], std::byte{'1'});
}

TEST(DoorFrame, IsNothingElse) {
  const auto good = DoorFrame{DoorFrame::Kind::read, NodeId{1}, Incarnation{2}}.encode();
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(DoorFrame::decode(std::span(good).first(size)));
  }
  std::vector<std::byte> longer(good.begin(), good.end());
  longer.push_back({});
  EXPECT_FALSE(DoorFrame::decode(longer));
  for (const std::size_t fixed : {0u, 1u, 2u, 3u, 4u, 5u, 6u, 7u}) {
    auto bad = good;
    bad[fixed] ^= std::byte{0x80};
    EXPECT_FALSE(DoorFrame::decode(bad)) << fixed;
  }
}

}  // namespace
}  // namespace membrain::wire
