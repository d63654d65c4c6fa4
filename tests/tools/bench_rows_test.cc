#include "tools/bench_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "tools/bench_figures.h"
#include "tools/bench_plot.h"
#include "tools/bench_progress.h"

namespace membrain {
namespace {

/// What Google Benchmark 1.7 wrote, shortened to what is read and one field that is not.
constexpr const char* kRecorded = R"({
  "context": {"date": "2026-01-01", "num_cpus": 2},
  "benchmarks": [
    {"name": "raw/tcp/1048576/min_time:0.300/real_time", "family_index": 0,
     "run_name": "raw/tcp/1048576/min_time:0.300/real_time", "run_type": "iteration",
     "repetitions": 3, "repetition_index": 0, "threads": 1, "iterations": 30,
     "real_time": 2.0, "cpu_time": 1.5, "time_unit": "ms", "bytes_per_second": 3.0e9},
    {"run_name": "raw/tcp/1048576/min_time:0.300/real_time", "run_type": "iteration",
     "repetition_index": 2, "real_time": 8.0, "time_unit": "ms", "bytes_per_second": 1.0e9},
    {"run_name": "raw/tcp/1048576/min_time:0.300/real_time", "run_type": "iteration",
     "repetition_index": 1, "real_time": 4.0, "time_unit": "ms", "bytes_per_second": 2.0e9},
    {"run_name": "raw/tcp/1048576/min_time:0.300/real_time", "run_type": "aggregate",
     "aggregate_name": "mean", "real_time": 99.0, "bytes_per_second": 9.0e9},
    {"run_name": "fetch/tcp/1048576/min_time:0.300/real_time", "run_type": "iteration",
     "real_time": 4.0, "time_unit": "ms", "bytes_per_second": 1.96e9},
    {"run_name": "raw_get_default/tcp/1048576", "run_type": "iteration",
     "real_time": 8.0, "time_unit": "ms", "bytes_per_second": 1.0e9},
    {"run_name": "fetch_verified/tcp/1048576/iterations:8/real_time", "run_type": "iteration",
     "error_occurred": true, "error_message": "wrong bytes", "real_time": 0.0},
    {"run_name": "lookup_512/tcp/real_time", "run_type": "iteration",
     "real_time": 140000, "time_unit": "ns", "p50_us": 140.0, "p99_us": 500.0}
  ]
})";

BenchFigures recorded() {
  BenchFigures figures;
  EXPECT_TRUE(figures.add(kRecorded));
  return figures;
}

const BenchRowSpec& spec_of(std::string_view name) {
  for (const BenchGroup& group : bench_groups()) {
    for (const BenchRowSpec& row : group.rows) {
      if (row.name == name) return row;
    }
  }
  ADD_FAILURE() << "no row " << name;
  return bench_groups().front().rows.front();
}

TEST(BenchFigures, AreMediansOfTheRepetitionsUnderTheShortName) {
  const BenchFigures figures = recorded();
  EXPECT_EQ(figures.find("raw/tcp/1048576", "bytes_per_second"), 2.0e9);
  EXPECT_EQ(figures.find("raw/tcp/1048576", "time_us"), 4000.0);
  EXPECT_EQ(figures.find("lookup_512/tcp", "time_us"), 140.0);
  EXPECT_EQ(figures.find("lookup_512/tcp", "bytes_per_second"), std::nullopt);
}

TEST(BenchFigures, KnowWhyARowFailed) {
  EXPECT_EQ(recorded().failure("fetch_verified/tcp/1048576"), "wrong bytes");
  EXPECT_EQ(recorded().find("fetch_verified/tcp/1048576", "time_us"), std::nullopt);
}

TEST(BenchFigures, RefuseWhatIsNoBenchmarksOutput) {
  BenchFigures figures;
  for (const char* text : {"", "{", "[]", "{\"benchmarks\": 1}"}) {
    EXPECT_FALSE(figures.add(text)) << text;
  }
}

TEST(BenchRowName, LosesWhatTheLibraryAppendsAndNothingElse) {
  EXPECT_EQ(bench_row_name("get/tcp/1048576/b16/c1/iterations:8/real_time"),
            "get/tcp/1048576/b16/c1");
  EXPECT_EQ(bench_row_name("find_batch/10000"), "find_batch/10000");
}

TEST(BenchRows, AreTheTwentyThatArePromised) {
  std::set<std::string> names;
  for (const BenchGroup& group : bench_groups()) {
    for (const BenchRowSpec& row : group.rows) names.emplace(row.name);
  }
  EXPECT_EQ(names, (std::set<std::string>{"fetch_tcp_1MiB_w4",
                                          "fetch_tcp_1MiB_w4_verified",
                                          "fetch_mapped_1MiB_verified",
                                          "fetch_tcp_64KiB_b16",
                                          "roundtrip_tcp_4KiB",
                                          "get_end_to_end_1MiB_b16",
                                          "fetch_mapped_1MiB",
                                          "fetch_view_b16",
                                          "checksum_cost_tcp_256KiB",
                                          "checksum_cost_mapped_1MiB",
                                          "catalog_keys",
                                          "catalog_bytes_per_entry",
                                          "lookup_512",
                                          "lookup_pipelined",
                                          "cost_growth_entries",
                                          "cost_growth_clients",
                                          "redis_fetch_64KiB",
                                          "redis_fetch_1MiB",
                                          "redis_fetch_mapped_1MiB",
                                          "redis_exists"}));
}

TEST(BenchRows, HoldWhenTheRowAndItsSecondFigureDo) {
  const BenchRowResult row = judge(spec_of("fetch_tcp_1MiB_w4"), recorded(), "");
  EXPECT_DOUBLE_EQ(row.value.value(), 1.96);
  EXPECT_DOUBLE_EQ(row.control_value.value(), 2.0);
  EXPECT_DOUBLE_EQ(row.ratio.value(), 0.98);
  EXPECT_TRUE(row.itself);
  ASSERT_EQ(row.extras.size(), 1U);
  EXPECT_DOUBLE_EQ(row.extras[0].ratio.value(), 1.96);  // 2 were asked for
  EXPECT_FALSE(row.extras[0].holds);
  EXPECT_FALSE(row.holds);
}

TEST(BenchRows, WithATargetOfTheirOwnHaveNoControl) {
  const BenchRowResult row = judge(spec_of("lookup_512"), recorded(), "");
  EXPECT_DOUBLE_EQ(row.value.value(), 140);
  EXPECT_TRUE(row.control.empty());
  EXPECT_TRUE(row.itself);
  EXPECT_FALSE(row.holds) << "one of a hundred is too slow";
}

TEST(BenchRows, OfACheckCostWhatIsLostWithoutIt) {
  BenchFigures figures;
  ASSERT_TRUE(figures.add(R"({"benchmarks": [
      {"run_name": "fetch/tcp/262144", "bytes_per_second": 2.0e9},
      {"run_name": "fetch_verified/tcp/262144", "bytes_per_second": 1.9e9}]})"));
  const BenchRowResult row = judge(spec_of("checksum_cost_tcp_256KiB"), figures, "");
  EXPECT_NEAR(row.value.value(), 0.05, 1e-9);
  EXPECT_TRUE(row.holds);
}

TEST(BenchRows, AgainstSeveralControlsTakeTheBest) {
  BenchFigures figures;
  ASSERT_TRUE(figures.add(R"({"benchmarks": [
      {"run_name": "membrain_fetch/tcp/65536", "bytes_per_second": 4.0e9},
      {"run_name": "redis_get/65536", "bytes_per_second": 1.0e9},
      {"run_name": "redis_mget/65536", "bytes_per_second": 1.6e9}]})"));
  const BenchRowResult row = judge(spec_of("redis_fetch_64KiB"), figures, "");
  EXPECT_EQ(row.control, "redis_mget/65536");
  EXPECT_DOUBLE_EQ(row.ratio.value(), 2.5);
  EXPECT_TRUE(row.holds);
}

TEST(BenchRows, ThatWereNotMeasuredSayWhy) {
  const BenchFigures none;
  const auto error = [&](const BenchFigures& figures, const std::string& why) {
    return judge(spec_of("fetch_tcp_1MiB_w4_verified"), figures, why).error;
  };
  EXPECT_EQ(error(recorded(), ""), "fetch_verified/tcp/1048576: wrong bytes");
  EXPECT_EQ(error(none, "transfer_bench is missing"), "transfer_bench is missing");
  EXPECT_EQ(error(none, ""), "the benchmark has no row fetch_verified/tcp/1048576");
}

TEST(BenchRows, AsJsonHaveEveryKeyAndNullForWhatIsNotThere) {
  const std::vector<BenchRowResult> rows{
      judge(spec_of("fetch_tcp_1MiB_w4"), recorded(), ""),
      judge(spec_of("lookup_512"), recorded(), ""),
      judge(spec_of("redis_exists"), recorded(), "redis-server is not installed")};
  const auto json = nlohmann::json::parse(to_json(rows));
  ASSERT_EQ(json["rows"].size(), 3U);
  for (const auto& row : json["rows"]) {
    for (const char* key :
         {"name", "value", "unit", "control", "control_value", "ratio", "target", "holds"}) {
      EXPECT_TRUE(row.contains(key)) << key;
    }
  }
  EXPECT_EQ(json["rows"][0]["ratio"], 0.98);
  EXPECT_FALSE(json["rows"][0].contains("error"));
  EXPECT_TRUE(json["rows"][1]["control"].is_null());
  EXPECT_TRUE(json["rows"][2]["value"].is_null());
  EXPECT_EQ(json["rows"][2]["holds"], false);
  EXPECT_EQ(json["rows"][2]["error"], "redis-server is not installed");
}

TEST(BenchRows, AsATableAreAlignedAndSayWhatIsMissing) {
  const std::string line = bench_table_line(judge(spec_of("fetch_tcp_1MiB_w4"), recorded(), ""));
  EXPECT_NE(line.find("1.96 GB/s  raw/tcp/1048576"), std::string::npos) << line;
  EXPECT_NE(line.find("0.98  >= 0.95  yes\n"), std::string::npos) << line;
  EXPECT_NE(line.find(">= 2     NO\n"), std::string::npos) << line;
  const std::string none = bench_table_line(judge(spec_of("redis_exists"), BenchFigures(), "gone"));
  EXPECT_NE(none.find("not measured: gone"), std::string::npos) << none;
}

TEST(ChosenGroups, HaveOnlyWhatWasAskedForAndNameWhatThereIs) {
  const std::vector<std::string> names{"catalog_keys", "redis_exists"};
  const auto groups = chosen_groups(names);
  ASSERT_TRUE(groups);
  ASSERT_EQ(groups->size(), 2U);
  EXPECT_EQ((*groups)[0].rows.size(), 1U);
  const auto wrong = chosen_groups(std::vector<std::string>{"catalogue"});
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().text.find("\"catalogue\""), std::string::npos);
  EXPECT_NE(wrong.error().text.find("catalog_keys"), std::string::npos);
}

TEST(BenchFilter, MatchesTheRowsWithWhateverIsAppended) {
  const std::vector<std::string> rows{"raw/tcp/65536", "lookup_clients/1"};
  const std::regex filter(filter_for(rows), std::regex::extended);
  EXPECT_TRUE(std::regex_search("raw/tcp/65536/min_time:0.300/real_time", filter));
  EXPECT_TRUE(std::regex_search("lookup_clients/1", filter));
  EXPECT_TRUE(std::regex_search("lookup_clients/1/iterations:8/process_time/real_time", filter));
  EXPECT_FALSE(std::regex_search("lookup_clients/16/real_time", filter));
  EXPECT_FALSE(std::regex_search("raw/tcp/65536/b16/min_time:0.300/real_time", filter));
}

TEST(BenchProgress, SaysWhatRunsAndHowLongTheRestTakes) {
  using std::chrono::seconds;
  const std::vector<BenchStep> steps{{"a", seconds(10)}, {"b", seconds(20)}, {"c", seconds(50)}};
  EXPECT_EQ(bench_progress_text(steps, 1, seconds(5), seconds(16)),
            "[2/3] b, 16 s so far, about 1 min 5 s left");
  EXPECT_EQ(bench_progress_text(steps, 2, seconds(60), seconds(90)), "[3/3] c, 1 min 30 s so far");
}

TEST(BandwidthPlot, DrawsWhatWasMeasuredAndNamesIt) {
  BenchFigures figures;
  ASSERT_TRUE(figures.add(R"({"benchmarks": [
      {"run_name": "fetch/tcp/4096", "bytes_per_second": 1.0e9},
      {"run_name": "fetch/tcp/1048576", "bytes_per_second": 2.5e9}]})"));
  const LinePlot plot = bandwidth_plot(figures, "a machine & more");
  const std::string svg = to_svg(plot);
  for (const char* part : {"<svg ", "</svg>", ">fetch, TCP</text>", ">4 KiB</text>",
                           ">1 MiB</text>", ">2.5</text>", "a machine &amp; more", "GB/s"}) {
    EXPECT_NE(svg.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(svg.find("memcpy</text>"), std::string::npos) << "it was not measured";
}

TEST(LinePlot, KeepsLabelsApartAndInsideThePicture) {
  LinePlot plot{"t", "s", "x", "y", {}};
  for (int i = 0; i < 6; ++i) {
    plot.lines.push_back({"line " + std::to_string(i), "#123456", false, {{4096, 1}, {8192, 1}}});
  }
  const std::string svg = to_svg(plot);
  std::vector<double> heights;
  const std::regex label("y=\"([0-9.]+)\" text-anchor=\"start\" class=\"label\"");
  for (std::sregex_iterator match(svg.begin(), svg.end(), label), end; match != end; ++match) {
    heights.push_back(std::stod((*match)[1]));
  }
  ASSERT_EQ(heights.size(), 6U);
  std::ranges::sort(heights);
  for (std::size_t i = 1; i < heights.size(); ++i) EXPECT_GE(heights[i] - heights[i - 1], 16.5);
  EXPECT_GE(heights.front(), 0);
  EXPECT_LE(heights.back(), 480);
}

TEST(LinePlot, OfNothingIsStillAPicture) {
  EXPECT_NE(to_svg({"t", "s", "x", "y", {}}).find("</svg>"), std::string::npos);
}

}  // namespace
}  // namespace membrain
