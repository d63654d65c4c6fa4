#include "base/codec.h"

#include <gtest/gtest.h>

namespace membrain {
namespace {

TEST(Codec, ReadsBackWhatWasWrittenAndNothingIsLeft) {
  std::vector<std::byte> bytes;
  Writer out(bytes);
  const Location at{NodeId{1}, Incarnation{2}, SlotId{3}, 4, Generation{5}, Checksum{6, 7}};
  out.put(std::uint8_t{9}), out.put(at), out.put(BlockKey{8, 9}), out.put(std::string_view("text"));
  Reader in(bytes);
  std::uint8_t number = 0;
  Location back;
  BlockKey key;
  std::string text;
  in.get(number), in.get(back), in.get(key), in.get(text, 4);
  EXPECT_TRUE(in.ok());
  EXPECT_EQ(in.left(), 0u);
  EXPECT_EQ(number, 9);
  EXPECT_EQ(back, at);
  EXPECT_EQ(key, (BlockKey{8, 9}));
  EXPECT_EQ(text, "text");
}

TEST(Codec, IsLittleEndian) {
  std::vector<std::byte> bytes;
  Writer(bytes).put(std::uint32_t{0x01020304});
  EXPECT_EQ(bytes[0], std::byte{4});
  EXPECT_EQ(bytes[3], std::byte{1});
}

TEST(Codec, YieldsZeroAndStaysSpoiledPastTheEnd) {
  const std::vector<std::byte> bytes(3, std::byte{0xff});
  Reader in(bytes);
  std::uint32_t number = 1;
  in.get(number);
  EXPECT_FALSE(in.ok());
  EXPECT_EQ(number, 0u);
  std::uint8_t small = 1;
  in.get(small);
  EXPECT_FALSE(in.ok());
  EXPECT_EQ(small, 0);
}

TEST(Codec, RefusesACountThatTheInputCannotHold) {
  std::vector<std::byte> bytes;
  Writer(bytes).put(std::uint32_t{0xffffffff});
  Reader above_bound(bytes);
  EXPECT_EQ(above_bound.count(1000, 1), 0u);
  EXPECT_FALSE(above_bound.ok());
  bytes.clear();
  Writer(bytes).put(std::uint32_t{900});
  Reader above_input(bytes);
  EXPECT_EQ(above_input.count(1000, 16), 0u);
  EXPECT_FALSE(above_input.ok());
}

TEST(Codec, RefusesTextAboveItsBoundAndEnumeratorsAboveTheLast) {
  enum class Colour : std::uint8_t { red, green };
  std::vector<std::byte> bytes;
  Writer(bytes).put(std::string_view("longer"));
  Reader text_reader(bytes);
  std::string text;
  text_reader.get(text, 5);
  EXPECT_FALSE(text_reader.ok());
  const std::vector<std::byte> two(1, std::byte{2});
  Reader enum_reader(two);
  Colour colour = Colour::red;
  enum_reader.get(colour, Colour::green);
  EXPECT_FALSE(enum_reader.ok());
}

}  // namespace
}  // namespace membrain
