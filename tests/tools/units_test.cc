#include "tools/units.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>

namespace membrain {
namespace {

using std::chrono::nanoseconds;

TEST(Sizes, AreReadInBinaryAndDecimalUnits) {
  EXPECT_EQ(parse_size("0").value(), 0U);
  EXPECT_EQ(parse_size("65536").value(), 65536U);
  EXPECT_EQ(parse_size("4GiB").value(), std::uint64_t{4} << 30);
  EXPECT_EQ(parse_size("512 MiB").value(), std::uint64_t{512} << 20);
  EXPECT_EQ(parse_size("64k").value(), 65536U);
  EXPECT_EQ(parse_size("1.5kib").value(), 1536U);
  EXPECT_EQ(parse_size("2GB").value(), 2'000'000'000U);
  EXPECT_EQ(parse_size("18446744073709551615").value(), UINT64_MAX);
}

TEST(Sizes, ThatCannotBeMeantAreRefusedInWords) {
  for (const char* text : {"", "GiB", "-1", "4GX", "4 4", "1e3", "0x10", "inf", "nan", "+5",
                           "99999999999TiB", "18446744073709551616"}) {
    const Outcome<std::uint64_t> size = parse_size(text);
    EXPECT_FALSE(size) << text;
    if (!size) {
      EXPECT_NE(size.error().text.find('"' + std::string(text) + '"'), std::string::npos);
    }
  }
}

TEST(Durations, NeedAUnit) {
  EXPECT_EQ(parse_duration("250ms").value(), std::chrono::milliseconds(250));
  EXPECT_EQ(parse_duration("1.5s").value(), std::chrono::milliseconds(1500));
  EXPECT_EQ(parse_duration("2m").value(), std::chrono::minutes(2));
  EXPECT_EQ(parse_duration("0s").value(), nanoseconds(0));
  for (const char* text : {"", "10", "s", "-1s", "5 fortnights", "1e99h"}) {
    EXPECT_FALSE(parse_duration(text)) << text;
  }
}

TEST(Addresses, HaveAHostAndAPort) {
  EXPECT_EQ(parse_address("127.0.0.1:9201").value(), "127.0.0.1:9201");
  EXPECT_EQ(parse_address("[::1]:0").value(), "[::1]:0");
  EXPECT_EQ(parse_address("kv-server.example:65535").value(), "kv-server.example:65535");
  for (const char* text : {"", "9201", ":9201", "host:", "host:65536", "host:-1", "::1:9201",
                           "a b:1", "host:12x", "a,b:1", "[a,b]:1"}) {
    EXPECT_FALSE(parse_address(text)) << text;
  }
}

TEST(Speeds, AreAFactorOrMax) {
  EXPECT_EQ(parse_speed("max").value(), 0);
  EXPECT_EQ(parse_speed("10").value(), 10);
  EXPECT_EQ(parse_speed("0.5x").value(), 0.5);
  for (const char* text : {"", "0", "-1", "fast", "1s"}) EXPECT_FALSE(parse_speed(text)) << text;
}

TEST(Switches, TakeTheUsualWords) {
  EXPECT_TRUE(parse_switch("Yes").value());
  EXPECT_TRUE(parse_switch("1").value());
  EXPECT_FALSE(parse_switch("off").value());
  EXPECT_FALSE(parse_switch("maybe"));
}

TEST(Numbers, AreShownAsPeopleReadThem) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1000), "1,000");
  EXPECT_EQ(format_count(54098411), "54,098,411");
  EXPECT_EQ(format_size(512), "512 B");
  EXPECT_EQ(format_size(65536), "64 KiB");
  EXPECT_EQ(format_size(12'079'595'520), "11.2 GiB");
  EXPECT_EQ(format_duration(std::chrono::microseconds(42)), "42 us");
  EXPECT_EQ(format_duration(std::chrono::milliseconds(250)), "250 ms");
  EXPECT_EQ(format_duration(std::chrono::seconds(75)), "1 min 15 s");
  EXPECT_EQ(format_duration(std::chrono::minutes(90)), "1 h 30 min");
}

}  // namespace
}  // namespace membrain
