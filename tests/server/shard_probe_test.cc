// What a store asks before it moves bytes.
#include <gtest/gtest.h>

#include "tests/server/shard_fixture.h"

namespace membrain::server_test {
namespace {

class ShardProbeTest : public ShardTest {
 protected:
  ShardProbeTest() : session_(open()) { register_node(); }
  wire::ProbeParts asking(std::vector<wire::PartName> parts) const {
    return {session_, space_, era_, std::move(parts)};
  }
  /// What the answer says of part `i`.
  static bool known(const Result<wire::ProbedParts>& answer, std::size_t i) {
    return (answer->bitmap.at(i / 8) >> (i % 8) & 1U) != 0;
  }
  SessionId session_;
};

TEST_F(ShardProbeTest, KnowsEachPartOfABlockByItself) {
  publish(entry(1));
  wire::SlotEntry second = entry(2);
  second.meta.part = 1;
  publish(second);
  std::vector<wire::PartName> parts = {{key(1), 0}, {key(1), 1}, {key(2), 0}, {key(2), 1}};
  for (std::uint64_t number = 3; number < 9; ++number) parts.push_back({key(number), 0});
  const auto answer = shard_->probe_parts(asking(parts), now_);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->bitmap.size(), 2u);
  EXPECT_TRUE(known(answer, 0) && known(answer, 3));
  EXPECT_FALSE(known(answer, 1) || known(answer, 2) || known(answer, 9));
}

TEST_F(ShardProbeTest, PinsNothingAndKnowsNothingOfAnotherEra) {
  publish(entry(1));
  ASSERT_TRUE(known(shard_->probe_parts(asking({{key(1), 0}}), now_), 0));
  EXPECT_EQ(shard_->pin_count(), 0u);
  ASSERT_TRUE(clear({session_, space_, era_}));
  EXPECT_FALSE(known(shard_->probe_parts(asking({{key(1), 0}}), now_), 0));
  publish(entry(1));
  EXPECT_FALSE(known(shard_->probe_parts(asking({{key(1), 0}}), now_), 0));
}

TEST_F(ShardProbeTest, DoesNotKnowABlockThatIsOnlyLent) {
  register_lender(2);
  publish(entry(1), 2);
  EXPECT_FALSE(known(shard_->probe_parts(asking({{key(1), 0}}), now_), 0));
  publish(entry(1));
  EXPECT_TRUE(known(shard_->probe_parts(asking({{key(1), 0}}), now_), 0));
}

TEST_F(ShardProbeTest, AnswersOnlyWhoMayReadTheNamespace) {
  wire::ProbeParts request = asking({{key(1), 0}});
  request.session = SessionId{99};
  EXPECT_EQ(shard_->probe_parts(request, now_).error().code, Errc::denied);
  request.session = hello("another tenant");
  EXPECT_EQ(shard_->probe_parts(request, now_).error().code, Errc::denied);
  request = asking({{key(1), 0}});
  request.space = NamespaceId{99};
  EXPECT_EQ(shard_->probe_parts(request, now_).error().code, Errc::invalid_argument);
  EXPECT_TRUE(shard_->probe_parts(asking({}), now_)->bitmap.empty());
}

}  // namespace
}  // namespace membrain::server_test
