#include "tools/torture_wire.h"

#include <gtest/gtest.h>

#include <string>

namespace membrain {
namespace {

using Op = TortureRecord::Op;

TEST(TortureWire, ARecordSurvivesItsLine) {
  TortureRecord record;
  record.op = Op::fetch;
  record.call = 12345678901234;
  record.ret = 12345678909999;
  record.space = 1;
  record.era = 3;
  record.next_era = 4;
  record.match = 77;
  record.pinned = 2;
  record.outcome = "timed_out";
  record.blocks = {1, 18446744073709551615U, 3};
  record.items = {TortureRecord::good, TortureRecord::lost, TortureRecord::corrupt};
  record.bytes = 65536;
  record.wrong_bytes = 1;
  const std::string line = to_line(record);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const Outcome<TortureRecord> back = torture_record_from_line(line);
  ASSERT_TRUE(back.has_value()) << back.error().text;
  EXPECT_EQ(*back, record);
}

TEST(TortureWire, EveryOperationHasAName) {
  for (const Op op : {Op::connected, Op::open, Op::lookup, Op::fetch, Op::reserve, Op::store,
                      Op::release, Op::clear, Op::resting}) {
    TortureRecord record;
    record.op = op;
    const Outcome<TortureRecord> back = torture_record_from_line(to_line(record));
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(back->op, op) << to_string(op);
  }
}

TEST(TortureWire, NumbersThatNoIntegerHoldsAreComplaints) {
  const std::string line = to_line(TortureRecord{});
  for (const std::string wrong : {"1e30", "-1e30", "0.5", "18446744073709551616"}) {
    std::string changed = line;
    changed.replace(changed.find("\"bytes\":0"), 9, "\"bytes\":" + wrong);
    EXPECT_FALSE(torture_record_from_line(changed).has_value()) << wrong;
  }
}

TEST(TortureWire, BrokenLinesAreComplaints) {
  EXPECT_FALSE(torture_record_from_line("").has_value());
  EXPECT_FALSE(torture_record_from_line("{}").has_value());
  TortureRecord record;
  std::string line = to_line(record);
  line.replace(line.find("lookup"), 6, "juggle");
  EXPECT_FALSE(torture_record_from_line(line).has_value());
  record.blocks = {1, 2};
  record.items = "+";
  EXPECT_FALSE(torture_record_from_line(to_line(record)).has_value())
      << "every block has an outcome";
}

}  // namespace
}  // namespace membrain
