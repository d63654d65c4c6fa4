#include "cache/node/authority.h"

#include <gtest/gtest.h>

#include "protocol/proofs.h"

namespace membrain {
namespace {

using wire::ItemStatus;

Digest key_of(std::uint64_t epoch) {
  Digest key{};
  key[0] = static_cast<std::byte>(epoch);
  return key;
}

wire::SessionProof proof_of(std::uint64_t epoch, std::uint64_t session = 5) {
  wire::SessionProof proof;
  proof.session = SessionId{session};
  proof.epoch = Epoch{epoch};
  proof.mac = session_mac(key_of(epoch), proof);
  return proof;
}

class AuthorityTest : public testing::Test {
 protected:
  void accept(std::uint32_t shard, std::uint64_t epoch) {
    authority_.accept(ShardId{shard}, Epoch{epoch}, key_of(epoch));
  }
  Authority authority_;
};

TEST_F(AuthorityTest, TakesProofsOfThePresentAndTheFormerTermOfEveryShard) {
  for (const std::uint32_t shard : {0u, 1u, 2u}) {
    accept(shard, 10 + shard);
    accept(shard, 20 + shard);
    accept(shard, 30 + shard);
  }
  for (const std::uint64_t epoch : {20u, 21u, 22u, 30u, 31u, 32u}) {
    EXPECT_EQ(authority_.check(proof_of(epoch)), ItemStatus::ok) << epoch;
    EXPECT_EQ(authority_.check(proof_of(epoch)), ItemStatus::ok) << "remembered";
  }
  for (const std::uint64_t epoch : {10u, 11u, 12u, 25u}) {
    EXPECT_EQ(authority_.check(proof_of(epoch)), ItemStatus::denied) << epoch;
  }
  EXPECT_EQ(authority_.latest(), Epoch{32});
}

TEST_F(AuthorityTest, DoesNotTakeTheProofOfOneShardUnderTheKeyOfAnother) {
  accept(0, 10);
  accept(1, 11);
  wire::SessionProof forged = proof_of(10);
  forged.epoch = Epoch{11};
  EXPECT_EQ(authority_.check(forged), ItemStatus::denied);
  forged = proof_of(10);
  forged.session.value ^= 1;
  EXPECT_EQ(authority_.check(forged), ItemStatus::denied);
  EXPECT_EQ(authority_.check(proof_of(10, 0)), ItemStatus::denied) << "of no session";
}

TEST_F(AuthorityTest, AsksToComeAgainWithAProofThatAShardMayHaveGivenSinceItWasJoined) {
  accept(0, 10);
  accept(1, 20);
  EXPECT_EQ(authority_.check(proof_of(15)), ItemStatus::unavailable) << "of shard 0, perhaps";
  EXPECT_EQ(authority_.check(proof_of(9)), ItemStatus::denied);
  accept(0, 30);
  EXPECT_EQ(authority_.check(proof_of(15)), ItemStatus::denied) << "no shard will have it again";
  EXPECT_EQ(authority_.check(proof_of(31)), ItemStatus::unavailable);
}

TEST_F(AuthorityTest, DeniesNothingForGoodBeforeItHasJoinedEveryShard) {
  EXPECT_EQ(authority_.check(proof_of(1)), ItemStatus::unavailable);
  authority_.keep({ShardId{0}, ShardId{1}});
  accept(0, 10);
  EXPECT_EQ(authority_.check(proof_of(3)), ItemStatus::unavailable) << "of shard 1, perhaps";
  accept(1, 11);
  EXPECT_EQ(authority_.check(proof_of(3)), ItemStatus::denied);
}

TEST_F(AuthorityTest, ForgetsShardsThatAreNoMore) {
  accept(0, 10);
  accept(1, 11);
  EXPECT_EQ(authority_.check(proof_of(10)), ItemStatus::ok);
  authority_.keep({ShardId{1}});
  EXPECT_EQ(authority_.check(proof_of(10)), ItemStatus::denied);
  EXPECT_EQ(authority_.check(proof_of(11)), ItemStatus::ok);
}

}  // namespace
}  // namespace membrain
