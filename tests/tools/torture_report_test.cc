#include "tools/torture_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace membrain {
namespace {

TortureReport report() {
  TortureReport report;
  report.seed = 17;
  report.elapsed = std::chrono::seconds(90);
  report.operations = {{"lookup", 1000}, {"store", 200}};
  report.bytes = 3 << 20;
  report.faults = {{"node killed", 4}, {"leader stopped", 2}};
  return report;
}

TEST(TortureReport, ItsJsonHasWhatScriptsAskFor) {
  const nlohmann::json object = nlohmann::json::parse(to_json(report()));
  EXPECT_EQ(object.at("operations"), 1200);
  EXPECT_EQ(object.at("bytes"), 3 << 20);
  EXPECT_EQ(object.at("faults").at("node killed"), 4);
  for (const char* none : {"wrong_bytes", "hangs", "leaks", "anomalies", "crashes"}) {
    EXPECT_EQ(object.at(none), 0) << none;
  }
  EXPECT_EQ(object.at("elapsed_s"), 90.0);
  EXPECT_EQ(object.at("seed"), 17);
}

TEST(TortureReport, ItSaysHowMuchWasJudgedWithoutExcuse) {
  TortureReport some = report();
  EXPECT_EQ(nlohmann::json::parse(to_json(some)).at("undisturbed_share"), 0.0);
  some.reads = 400;
  some.undisturbed = 100;
  some.late = 3;
  some.latest = std::chrono::milliseconds(1120);
  const nlohmann::json object = nlohmann::json::parse(to_json(some));
  EXPECT_EQ(object.at("judged_reads"), 400);
  EXPECT_EQ(object.at("judged_undisturbed"), 100);
  EXPECT_EQ(object.at("undisturbed_share"), 0.25);
  EXPECT_EQ(object.at("past_deadline_and_a_second"), 3);
  EXPECT_EQ(object.at("latest_past_deadline_ms"), 1120);
  EXPECT_NE(to_table(some).find("100 (25 %)"), std::string::npos) << to_table(some);
}

TEST(TortureReport, ItsTableNamesFaultsAndWhatIsWrong) {
  TortureReport wrong = report();
  wrong.leaks = 2;
  wrong.told = {"leaked: 2 pins that no engine holds"};
  const std::string table = to_table(wrong);
  EXPECT_NE(table.find("node killed"), std::string::npos) << table;
  EXPECT_NE(table.find("1,200"), std::string::npos) << table;
  EXPECT_NE(table.find("2 pins"), std::string::npos) << table;
}

TEST(TortureReport, OneOfWhatThereMustBeNoneOfSpoilsIt) {
  EXPECT_TRUE(report().sound());
  for (const auto member :
       {&TortureReport::wrong_bytes, &TortureReport::hangs, &TortureReport::leaks,
        &TortureReport::anomalies, &TortureReport::crashes}) {
    TortureReport wrong = report();
    wrong.*member = 1;
    EXPECT_FALSE(wrong.sound());
  }
}

}  // namespace
}  // namespace membrain
