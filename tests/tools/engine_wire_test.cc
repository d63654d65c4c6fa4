#include "tools/engine_wire.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace membrain {
namespace {

TEST(EngineWire, CarriesATaskUnchanged) {
  const EngineTask task{12, 6758, {0, 1, UINT64_MAX}};
  const std::string line = to_line(task);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const Outcome<EngineTask> copy = task_from_line(line);
  ASSERT_TRUE(copy);
  EXPECT_EQ(copy->index, task.index);
  EXPECT_EQ(copy->input_length, task.input_length);
  EXPECT_EQ(copy->hash_ids, task.hash_ids);
}

TEST(EngineWire, CarriesAReportUnchanged) {
  EngineReport report;
  report.index = 4;
  report.blocks_looked_up = 14;
  report.blocks_hit = 9;
  report.prefix_blocks = 8;
  report.tokens_saved = 4096;
  report.bytes_fetched = 589824;
  report.wrong_bytes = 1;
  report.blocks_stored = 3;
  report.blocks_duplicate = 2;
  report.bytes_stored = 196608;
  report.lookup_ns = 61000;
  report.fetch_ns = UINT64_MAX;
  report.store_ns = 5;
  report.misses = {1, 2, 3, 4, 5};
  report.not_stored["out_of_capacity"] = 7;
  report.lanes["shm"] = 1 << 20;
  EXPECT_EQ(report_from_line(to_line(report)).value(), report);
}

TEST(EngineWire, RefusesWhatIsNoMessage) {
  for (const char* line : {"", "ready", "{}", "[1]", R"({"index":"a"})"}) {
    EXPECT_FALSE(task_from_line(line)) << line;
    EXPECT_FALSE(report_from_line(line)) << line;
  }
}

}  // namespace
}  // namespace membrain
