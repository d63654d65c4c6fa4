#include "tools/trace.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace membrain {
namespace {

/// A file for one test, gone with it.
class TraceFile : public testing::Test {
 protected:
  ~TraceFile() override { std::filesystem::remove(path_); }

  std::string holding(std::string_view text) {
    std::ofstream(path_) << text;
    return path_;
  }

  std::string path_ =
      testing::TempDir() + testing::UnitTest::GetInstance()->current_test_info()->name() + ".jsonl";
};

constexpr std::string_view kGood =
    R"({"timestamp": 27, "input_length": 600, "output_length": 5, "hash_ids": [0, 7], "x": {}})";

TEST(TraceLine, IsReadAndForeignFieldsAreIgnored) {
  const TraceRequest expected{27, 600, 5, {0, 7}};
  EXPECT_EQ(parse_trace_line(kGood).value(), expected);
}

TEST(TraceLine, MayNameBlocksByAnyUnsignedNumber) {
  const auto request = parse_trace_line(
      R"({"timestamp":0.5,"input_length":1,"output_length":0,"hash_ids":[18446744073709551615]})");
  ASSERT_TRUE(request);
  EXPECT_EQ(request->hash_ids.front(), UINT64_MAX);
}

TEST(TraceLine, SaysWhatIsWrongWithIt) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"{", "not JSON"},
      {"[]", "must be a JSON object"},
      {R"({"input_length":1,"output_length":1,"hash_ids":[]})", "\"timestamp\" is missing"},
      {R"({"timestamp":0,"output_length":1,"hash_ids":[]})", "\"input_length\" is missing"},
      {R"({"timestamp":0,"input_length":1,"output_length":1})", "\"hash_ids\" is missing"},
      {R"({"timestamp":0,"input_length":-1,"output_length":1,"hash_ids":[]})", "\"input_length\""},
      {R"({"timestamp":0,"input_length":"1","output_length":1,"hash_ids":[]})", "\"input_length\""},
      {R"({"timestamp":0,"input_length":1,"output_length":1,"hash_ids":{}})", "must be a list"},
      {R"({"timestamp":0,"input_length":1,"output_length":1,"hash_ids":[1.5]})", "not 1.5"},
      {R"({"timestamp":0,"input_length":1,"output_length":1,"hash_ids":[-3]})", "not -3"},
      {R"({"timestamp":0,"input_length":1,"output_length":1,"hash_ids":["a"]})", "not \"a\""},
  };
  for (const auto& [line, complaint] : cases) {
    const Outcome<TraceRequest> request = parse_trace_line(line);
    ASSERT_FALSE(request) << line;
    EXPECT_NE(request.error().text.find(complaint), std::string::npos) << request.error().text;
  }
}

/// Spelling it out would need more stack than there is.
TEST(TraceLine, ANestedValueIsNamedHoweverDeepItIs) {
  const std::string deep = std::string(1'000'000, '[') + std::string(1'000'000, ']');
  const std::string_view rest = R"(,"input_length":1,"output_length":1,"hash_ids":)";
  const auto time = parse_trace_line("{\"timestamp\":" + deep + std::string(rest) + "[]}");
  ASSERT_FALSE(time);
  EXPECT_NE(time.error().text.find("not array"), std::string::npos) << time.error().text;
  const auto ids = parse_trace_line("{\"timestamp\":0" + std::string(rest) + "[" + deep + "]}");
  ASSERT_FALSE(ids);
  EXPECT_NE(ids.error().text.find("not array"), std::string::npos) << ids.error().text;
}

TEST_F(TraceFile, ComplaintsNameFileAndLine) {
  const std::string good(kGood);
  const auto trace = read_trace(holding(good + "\n\n" + good + "\nbroken\n"), 0);
  ASSERT_FALSE(trace);
  EXPECT_EQ(trace.error().text, path_ + ":4: this is not JSON");
}

TEST_F(TraceFile, IsReadAsFarAsAskedFor) {
  const std::string good(kGood);
  const std::string path = holding(good + "\r\n" + good + "\nbroken\n");
  EXPECT_EQ(read_trace(path, 2).value().size(), 2U);
  EXPECT_FALSE(read_trace(path, 3));
}

TEST_F(TraceFile, ThatIsMissingOrEmptyIsNamed) {
  const auto missing = read_trace(path_, 0);
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().text.find("No such file"), std::string::npos);
  const auto empty = read_trace(holding("\n\n"), 0);
  ASSERT_FALSE(empty);
  EXPECT_EQ(empty.error().text, path_ + ": there is no request in it");
}

TEST(Trace, CountsDistinctBlocksAndSavedTokens) {
  EXPECT_EQ(distinct_blocks({{0, 0, 0, {1, 2}}, {0, 0, 0, {2, 3, 3}}}), 3U);
  EXPECT_EQ(tokens_saved(2, 6000), 1024U);
  EXPECT_EQ(tokens_saved(2, 600), 600U);
}

}  // namespace
}  // namespace membrain
