// Grants: what one process pinned, another fetches; bytes that are no grant are refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/checksum.h"
#include "cache/client/grant.h"
#include "tests/client/fake_cluster.h"

namespace membrain::client_test {
namespace {

class Grant : public ClientTest {
 protected:
  std::vector<std::byte> grant_of(const Match& match) {
    auto bytes = await(control_loop_, core_->grant(match.state(), milliseconds(5000)));
    EXPECT_TRUE(bytes);
    return bytes.value_or(std::vector<std::byte>{});
  }
  Result<Match> adopt(std::vector<std::byte> bytes) {
    return await(control_loop_, core_->adopt(std::move(bytes)));
  }
  /// Changes some bytes and mends the checksum, like an attacker would.
  static std::vector<std::byte> forged(std::vector<std::byte> bytes, std::size_t at,
                                       std::vector<std::byte> with) {
    std::copy(with.begin(), with.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at));
    const std::size_t body = bytes.size() - sizeof(Checksum);
    const Checksum sum = checksum(std::span(bytes).first(body));
    bytes.resize(body);
    Writer out(bytes);
    out.put(sum);
    return bytes;
  }
};

TEST_F(Grant, AnAdoptedMatchIsFetchedWithTheIssuersProofAndHoldsNoPin) {
  shard_.max_keys = 2;  // several lookups, several proofs
  begin();
  std::vector<std::vector<std::byte>> expected;
  for (unsigned number = 0; number < 5; ++number) {
    expected.push_back(publish(number, 1000 + number, {&node1_, &node2_}));
  }
  const Match match = lookup({0, 1, 2, 3, 4, 5}).value();
  const std::vector<std::byte> bytes = grant_of(match);
  EXPECT_LE(bytes.size(), Match::kMaxGrantBytes);
  std::vector<std::vector<std::byte>> into(5);
  {
    const Match adopted = adopt(bytes).value();
    EXPECT_EQ(adopted.block_count(), 6U);
    EXPECT_EQ(adopted.prefix_blocks(), 5U);
    EXPECT_TRUE(adopted.has(4));
    EXPECT_FALSE(adopted.has(5));
    EXPECT_EQ(adopted.part_bytes(3), 1003U);
    EXPECT_FALSE(adopted.pinned());
    std::vector<FetchItem> items;
    for (std::uint32_t block = 0; block < 5; ++block) {
      into[block].resize(1000 + block);
      items.push_back(whole(block, into[block]));
    }
    EXPECT_EQ(fetch(adopted, items)->ok_count(), 5U);
    EXPECT_FALSE(await(control_loop_, core_->grant(adopted.state(), milliseconds(5))));
  }
  EXPECT_EQ(into, expected);
  const wire::SessionProof& proof =
      (node1_.fetches.empty() ? node2_ : node1_).fetches.front().second.proof;
  EXPECT_TRUE(proof.grant);
  EXPECT_EQ(proof.mac[0], std::byte{0x5a});
  run_for(seconds(1));
  EXPECT_EQ(shard_.pins.size(), 3U) << "the pins stay the issuer's";
}

TEST_F(Grant, NothingPinnedNothingGranted) {
  begin();
  const Match nothing = lookup({1}).value();
  const auto bytes = await(control_loop_, core_->grant(nothing.state(), milliseconds(5)));
  ASSERT_FALSE(bytes);
  EXPECT_EQ(bytes.error().code, Errc::invalid_argument);
}

TEST_F(Grant, IsUnavailableWhileTheServerIsAway) {
  begin();
  publish(1, 100, {&node1_});
  const Match match = lookup({1}).value();
  shard_.deny = true;
  shard_.close(*shard_.peers.begin());
  step_until([&] { return !core_->connected(); });
  const auto bytes = await(control_loop_, core_->grant(match.state(), milliseconds(5)));
  ASSERT_FALSE(bytes);
  EXPECT_EQ(bytes.error().code, Errc::unavailable);
}

TEST_F(Grant, HoldsALongPromptWithAllItsParts) {
  shard_.max_keys = 500;
  begin();
  std::vector<unsigned> numbers;
  for (unsigned number = 0; number < 3000; ++number) {
    publish(number, 10, {&node1_, &node1_, &node2_, &node2_});
    numbers.push_back(number);
  }
  const Match all = lookup(numbers).value();
  const auto bytes = await(control_loop_, core_->grant(all.state(), milliseconds(5)));
  ASSERT_TRUE(bytes);
  EXPECT_GT(bytes->size(), 512U * 1024);
  EXPECT_EQ(adopt(*bytes)->prefix_blocks(), 3000U);
}

TEST_F(Grant, MoreReplicasThanOneGrantHoldsAreRefused) {
  Match::State state;
  state.replicas.resize(Match::kMaxGrantBytes / 32);
  const auto bytes = encode_grant(state, {});
  ASSERT_FALSE(bytes);
  EXPECT_EQ(bytes.error().code, Errc::out_of_capacity);
}

TEST_F(Grant, ShortenedOrChangedBytesAreNoGrant) {
  begin();
  for (unsigned number = 0; number < 3; ++number) publish(number, 100, {&node1_});
  const Match match = lookup({0, 1, 2}).value();
  const std::vector<std::byte> bytes = grant_of(match);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const Result<std::shared_ptr<Match::State>> cut = decode_grant(std::span(bytes).first(size));
    ASSERT_FALSE(cut);
    ASSERT_EQ(cut.error().code, Errc::corrupt);
  }
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    std::vector<std::byte> changed = bytes;
    changed[at] ^= std::byte{0x10};
    ASSERT_FALSE(decode_grant(changed)) << at;
  }
  EXPECT_EQ(adopt(std::vector<std::byte>(100)).error().code, Errc::corrupt);
  EXPECT_EQ(adopt({}).error().code, Errc::corrupt);
  EXPECT_EQ(adopt(std::vector<std::byte>(Match::kMaxGrantBytes + 1)).error().code, Errc::corrupt);
}

TEST_F(Grant, ForgedBytesWithARightChecksumNeverLeadOutsideTheMatch) {
  begin();
  for (unsigned number = 0; number < 3; ++number) publish(number, 100, {&node1_});
  const Match match = lookup({0, 1, 2}).value();
  const std::vector<std::byte> bytes = grant_of(match);
  std::mt19937 random(3);
  std::size_t taken = 0;
  for (std::size_t at = 0; at + 4 + sizeof(Checksum) <= bytes.size(); ++at) {
    for (int round = 0; round < 8; ++round) {
      std::vector<std::byte> with(1 + random() % 4);
      for (std::byte& one : with) one = static_cast<std::byte>(round < 2 ? 0xff : random());
      const Result<std::shared_ptr<Match::State>> state = decode_grant(forged(bytes, at, with));
      if (!state) continue;
      ++taken;  // another key or place: the nodes refuse it
      const Match forged_match(*state);
      for (std::size_t block = 0; block < forged_match.block_count() + 2; ++block) {
        for (std::uint16_t part = 0; part < 66; ++part) {
          for (const FoundReplica& replica : (*state)->replicas_of(block, part)) {
            ASSERT_GT(replica.at.length, 0U);
            ASSERT_TRUE((*state)->claim_of(block));
          }
        }
      }
    }
  }
  EXPECT_GT(taken, 0U);
}

}  // namespace
}  // namespace membrain::client_test
