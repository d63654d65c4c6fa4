#include "tools/totals.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <string>

namespace membrain {
namespace {

Totals sample() {
  EngineReport report;
  report.blocks_looked_up = 14;
  report.blocks_hit = 10;
  report.prefix_blocks = 10;
  report.tokens_saved = 5120;
  report.bytes_fetched = 655360;
  report.blocks_stored = 4;
  report.bytes_stored = 262144;
  report.lookup_ns = 60'000;
  report.fetch_ns = 655'360;
  report.store_ns = 400'000;
  report.misses[static_cast<std::size_t>(Miss::unknown)] = 3;
  report.misses[static_cast<std::size_t>(Miss::stale)] = 1;
  report.lanes["shm"] = 917504;
  Totals totals;
  totals.instances = 2;
  totals.elapsed = std::chrono::seconds(2);
  totals.add(report, 7000);
  totals.add(report, 7000);
  return totals;
}

TEST(Totals, AsJsonHaveTheAgreedKeys) {
  const auto json = nlohmann::json::parse(to_json(sample()));
  for (const char* key :
       {"requests", "blocks_looked_up", "blocks_hit", "hit_ratio", "tokens_saved", "bytes_fetched",
        "bytes_stored", "wrong_bytes", "fetch_gb_per_s", "lookup_us", "fetch_us", "store_us",
        "misses", "lanes", "instances", "elapsed_s"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  EXPECT_EQ(json["requests"], 2);
  EXPECT_EQ(json["blocks_hit"], 20);
  EXPECT_EQ(json["tokens_saved"], 10240);
  EXPECT_DOUBLE_EQ(json["fetch_gb_per_s"], 1.0);
  EXPECT_EQ(json["lanes"]["shm"], 1835008);
  for (const char* latency : {"lookup_us", "fetch_us", "store_us"}) {
    EXPECT_GT(json[latency]["p50"], 0);
    EXPECT_GE(json[latency]["p99"], json[latency]["p50"]);
  }
}

TEST(Totals, HaveEveryReasonOfAMissEvenIfItNeverCame) {
  const auto misses = nlohmann::json::parse(to_json(Totals{}))["misses"];
  for (const char* reason : {"unknown", "stale", "corrupt", "peer_lost", "timeout"}) {
    EXPECT_EQ(misses[reason], 0) << reason;
  }
}

TEST(Totals, OfNothingAreNoDivisionByZero) {
  const auto json = nlohmann::json::parse(to_json(Totals{}));
  EXPECT_EQ(json["hit_ratio"], 0.0);
  EXPECT_EQ(json["fetch_gb_per_s"], 0.0);
  EXPECT_TRUE(json["lanes"].is_object());
}

TEST(Totals, AsATableSayWhatMatters) {
  const std::string table = to_table(sample());
  for (const char* words : {"28 looked up, 20 hit (71.4 %)", "10,240 of 14,000 (73.1 %)",
                            "unknown 6, stale 2", "wrong bytes     0", "shm 1.8 MiB"}) {
    EXPECT_NE(table.find(words), std::string::npos) << words << table;
  }
}

}  // namespace
}  // namespace membrain
