#include "protocol/frame.h"

#include <gtest/gtest.h>

#include <random>

#include "protocol/messages.h"

namespace membrain::wire {
namespace {

std::vector<std::byte> heartbeat_frame() {
  std::vector<std::byte> bytes;
  Header header;
  header.op = OpId{7};
  header.shard = ShardId{1};
  header.epoch = Epoch{9};
  write_frame(bytes, header, Heartbeat{SessionId{42}});
  return bytes;
}

TEST(Frame, HasTheDocumentedBytes) {
  const std::vector<std::byte> bytes = heartbeat_frame();
  ASSERT_EQ(bytes.size(), kHeaderBytes + 8);
  const unsigned char expected[] = {'M', 'B', 'N', '1', 1, 6, 0, 0,   // magic, version, type, flags
                                    7,   0,   0,   0,   0, 0, 0, 0,   // op
                                    1,   0,   0,   0,   0, 0, 0, 0,   // shard, reserved
                                    9,   0,   0,   0,   0, 0, 0, 0,   // epoch
                                    8,   0,   0,   0,                 // body bytes
                                    42,  0,   0,   0,   0, 0, 0, 0};  // session
  EXPECT_EQ(std::memcmp(bytes.data(), expected, sizeof expected), 0);
}

TEST(Frame, ReadsBackItsHeader) {
  const std::vector<std::byte> bytes = heartbeat_frame();
  const Result<Frame> frame = read_frame(bytes);
  ASSERT_TRUE(frame);
  EXPECT_EQ(frame->header.type, Type::heartbeat);
  EXPECT_EQ(frame->header.op, OpId{7});
  EXPECT_EQ(frame->header.epoch, Epoch{9});
  EXPECT_EQ(read_body<Heartbeat>(frame->body)->session, SessionId{42});
}

TEST(Frame, EveryTruncationIsCorrupt) {
  const std::vector<std::byte> bytes = heartbeat_frame();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(read_frame(std::span(bytes).first(size))) << size;
  }
}

TEST(Frame, WrongMagicVersionOrLengthIsCorrupt) {
  for (const std::size_t at : {0u, 4u, 32u}) {
    std::vector<std::byte> bytes = heartbeat_frame();
    bytes[at] ^= std::byte{0x40};
    const Result<Frame> frame = read_frame(bytes);
    ASSERT_FALSE(frame);
    EXPECT_EQ(frame.error().code, Errc::corrupt);
  }
}

TEST(Frame, AnUnknownTypeIsReadSoThatItCanBeRefusedPolitely) {
  std::vector<std::byte> bytes = heartbeat_frame();
  bytes[5] = std::byte{250};
  const Result<Frame> frame = read_frame(bytes);
  ASSERT_TRUE(frame);
  EXPECT_EQ(static_cast<int>(frame->header.type), 250);
}

TEST(Frame, RandomBytesNeverReadAsAFrame) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::byte> bytes(random() % 128);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    EXPECT_FALSE(read_frame(bytes));
  }
}

}  // namespace
}  // namespace membrain::wire
