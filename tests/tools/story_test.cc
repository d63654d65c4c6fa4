#include "tools/story.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace membrain {
namespace {

TEST(Story, TellsHitsBeforeStores) {
  EngineReport report;
  report.index = 7;
  report.blocks_looked_up = 12;
  report.blocks_hit = 9;
  report.bytes_fetched = 9 * 65536;
  report.fetch_ns = 410'000;
  report.tokens_saved = 4608;
  report.blocks_stored = 3;
  report.bytes_stored = 3 * 65536;
  report.store_ns = 620'000;
  const std::vector<Event> events = events_of(1, report);
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].text,
            "MEMBRAIN HIT   engine 1  request     7    9 of  12 blocks   576 KiB in 410 us  "
            "4,608 tokens saved");
  EXPECT_EQ(events[1].text,
            "MEMBRAIN STORE engine 1  request     7    3 of  12 blocks   192 KiB in 620 us");
}

TEST(Story, IsSilentWhereNothingHappened) {
  EXPECT_TRUE(events_of(0, {}).empty());
}

TEST(Story, ShoutsAboutWrongBytes) {
  EngineReport report;
  report.blocks_hit = 1;
  report.wrong_bytes = 3;
  EXPECT_NE(events_of(0, report)[0].text.find("3 WRONG BYTES"), std::string::npos);
}

}  // namespace
}  // namespace membrain
