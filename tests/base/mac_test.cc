#include "base/mac.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace membrain {
namespace {

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return text;
}

TEST(Mac, Sha256OfAbcIsThatOfFips180) {
  EXPECT_EQ(hex(sha256(as_bytes("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Mac, HmacMatchesRfc4231CasesOneTwoAndSix) {
  const std::vector<std::byte> key1(20, std::byte{0x0b});
  const std::span<const std::byte> data1[] = {as_bytes("Hi "), as_bytes("There")};
  EXPECT_EQ(hex(hmac_sha256(key1, data1)),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  const std::span<const std::byte> data2[] = {as_bytes("what do ya want for nothing?")};
  EXPECT_EQ(hex(hmac_sha256(as_bytes("Jefe"), data2)),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  const std::vector<std::byte> key6(131, std::byte{0xaa});
  const std::span<const std::byte> data6[] = {
      as_bytes("Test Using Larger Than Block-Size Key - Hash Key First")};
  EXPECT_EQ(hex(hmac_sha256(key6, data6)),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(Mac, ComparesAllBytes) {
  Digest a = sha256(as_bytes("a"));
  const Digest b = a;
  EXPECT_TRUE(equal_in_constant_time(a, b));
  a[31] ^= std::byte{1};
  EXPECT_FALSE(equal_in_constant_time(a, b));
  EXPECT_FALSE(equal_in_constant_time(std::span(b).first(31), b));
}

TEST(Mac, RandomBytesDoNotRepeat) {
  EXPECT_NE(random_u64(), random_u64());
}

}  // namespace
}  // namespace membrain
