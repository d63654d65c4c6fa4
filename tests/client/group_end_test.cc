// Groups of real clients, over UCX: every member a thread of its own.
#include <gtest/gtest.h>

#include <array>
#include <thread>

#include "tests/client/mapped_house.h"
#include "tools/free_port.h"

namespace membrain {
namespace {

constexpr std::uint32_t kMembers = 3;
constexpr std::uint32_t kBlocks = 24;
constexpr std::size_t kPlanes = 5;
constexpr std::size_t kPieceBytes = 40 * 1024;

class Groups : public MappedHouse {
 protected:
  struct Member {
    std::unique_ptr<Client> client;
    std::vector<std::byte> memory = std::vector<std::byte>(kPlanes * kBlocks * kPieceBytes);
    std::optional<Group> group;

    [[nodiscard]] RegisteredLayout layout() {
      Layout layout;
      layout.blocks = kBlocks;
      for (std::size_t plane = 0; plane < kPlanes; ++plane) {
        layout.planes.push_back(
            {memory.data() + plane * kBlocks * kPieceBytes, kPieceBytes, kPieceBytes});
      }
      return Client::register_layout(layout).value();
    }
  };

  GroupConfig config() {
    GroupConfig config;
    config.name = "ranks";
    for (std::uint32_t rank = 0; rank < kMembers; ++rank)
      config.members.push_back("127.0.0.1:" + std::to_string(free_port()));
    return config;
  }
  void join_all() {
    GroupConfig config = this->config();
    for (std::uint32_t rank = 0; rank < kMembers; ++rank) {
      members_[rank].client = client();
      config.rank = rank;
      auto joined = members_[rank].client->join(config);
      ASSERT_TRUE(joined) << joined.error().context;
      members_[rank].group.emplace(std::move(*joined));
    }
    for (unsigned number = 0; number < kBlocks; ++number) hashes_.push_back(hash_of(number));
  }
  Operation<TransferReport> begin(Member& member, std::uint32_t root,
                                  std::chrono::milliseconds timeout) {
    Replication blocks;
    blocks.root = root;
    blocks.hashes = hashes_;
    TransferOptions options;
    options.timeout = timeout;
    return member.client->replicate_to_async(*member.group, member.layout(), blocks, options);
  }
  Result<TransferReport> replicate(Member& member, std::uint32_t root,
                                   std::chrono::milliseconds timeout) {
    return begin(member, root, timeout).wait();
  }

  void expect_all_get(std::uint32_t root) {
    std::array<std::size_t, kMembers> ok{};
    {
      std::vector<std::jthread> ranks;
      for (std::uint32_t rank = 0; rank < kMembers; ++rank) {
        ranks.emplace_back([&, rank] {
          const auto report = replicate(members_[rank], root, std::chrono::seconds(20));
          ok[rank] = report ? report->ok_count() : 0;
        });
      }
    }
    for (std::uint32_t rank = 0; rank < kMembers; ++rank) {
      EXPECT_EQ(ok[rank], kBlocks) << "member " << rank;
      EXPECT_TRUE(members_[rank].memory == members_[root].memory) << "member " << rank;
    }
  }

  std::array<Member, kMembers> members_;
  std::vector<BlockHash> hashes_;
};

TEST_P(Groups, EveryMemberGetsTheRootsBlocks) {
  ASSERT_NO_FATAL_FAILURE(join_all());
  for (std::uint32_t root = 0; root < kMembers; ++root) {
    members_[root].memory = content(members_[root].memory.size(), 40 + root);
    expect_all_get(root);
  }
}

TEST_P(Groups, AMemberThatDoesNotComeIsToldAtTheDeadline) {
  ASSERT_NO_FATAL_FAILURE(join_all());
  const auto report = replicate(members_[0], 0, std::chrono::milliseconds(300));
  ASSERT_TRUE(report) << report.error().context;
  EXPECT_EQ(report->ok_count(), 0U);
  EXPECT_EQ(report->items[0].why, Errc::timed_out);
  const auto late = replicate(members_[2], 0, std::chrono::milliseconds(100));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Errc::timed_out);
}

TEST_P(Groups, ACallThatWaitsForItsTurnEndsAtItsOwnDeadline) {
  ASSERT_NO_FATAL_FAILURE(join_all());
  auto first = begin(members_[0], 0, std::chrono::minutes(10));  // the others do not come
  auto late = begin(members_[0], 0, std::chrono::milliseconds(50));
  auto taken_back = begin(members_[0], 0, std::chrono::minutes(10));
  EXPECT_EQ(late.wait().error().code, Errc::timed_out);
  EXPECT_FALSE(first.done());
  taken_back.cancel();
  EXPECT_EQ(taken_back.wait().error().code, Errc::cancelled);
  EXPECT_FALSE(first.done());
  first.cancel();
  EXPECT_EQ(first.wait().error().code, Errc::cancelled);
  for (const std::uint32_t rank : {1U, 2U}) {
    for (int call = 0; call < 3; ++call) {
      static_cast<void>(replicate(members_[rank], 0, std::chrono::milliseconds(20)));
    }
  }
  members_[0].memory = content(members_[0].memory.size(), 70);
  expect_all_get(0);
}

TEST_P(Groups, ARefusedCallLeavesTheMembersInStep) {
  ASSERT_NO_FATAL_FAILURE(join_all());
  Replication wrong;
  wrong.hashes = hashes_;
  wrong.first_id = 1;
  Member& last = members_[kMembers - 1];
  ASSERT_FALSE(last.client->replicate_to(*last.group, last.layout(), wrong));
  for (const std::uint32_t rank : {0U, 1U}) {
    static_cast<void>(replicate(members_[rank], 0, std::chrono::milliseconds(100)));
  }
  members_[0].memory = content(members_[0].memory.size(), 60);
  expect_all_get(0);
}

TEST_P(Groups, WhatMakesNoSenseIsRefused) {
  const auto alone = client();
  GroupConfig config = this->config();
  config.rank = kMembers;
  EXPECT_EQ(alone->join(config).error().code, Errc::invalid_argument);
  config.rank = 0;
  config.name.clear();
  EXPECT_EQ(alone->join(config).error().code, Errc::invalid_argument);
  config.name = "a group";
  config.members.resize(1);
  EXPECT_EQ(alone->join(config).error().code, Errc::invalid_argument);
  ASSERT_NO_FATAL_FAILURE(join_all());
  Replication blocks;
  blocks.hashes = hashes_;
  blocks.root = kMembers;
  Member& member = members_[0];
  EXPECT_EQ(member.client->replicate_to(*member.group, member.layout(), blocks).error().code,
            Errc::invalid_argument);
  blocks.root = 0;
  blocks.first_id = 1;
  EXPECT_EQ(member.client->replicate_to(*member.group, member.layout(), blocks).error().code,
            Errc::invalid_argument)
      << "an id behind the last";
}

INSTANTIATE_TEST_SUITE_P(Modes, Groups,
                         testing::Values(ClientConfig::Threads::own, ClientConfig::Threads::caller),
                         [](const auto& mode) {
                           return mode.param == ClientConfig::Threads::own ? "own" : "caller";
                         });

}  // namespace
}  // namespace membrain
