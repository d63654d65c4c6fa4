// NCCL from a loop's point of view: its waits happen elsewhere, and end when they have to.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/log.h"
#include "cache/client/nccl_collective.h"
#include "tests/cuda/gpu_fixture.h"
#include "tests/nccl/fake_nccl.h"

namespace membrain {
namespace {

using cuda_test::memory_of;
using cuda_test::noise;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint32_t kBlocks = 12;
constexpr std::size_t kBlockBytes = 30'000;
constexpr std::size_t kChunkBytes = 128 * 1024;

class NcclCollectives : public cuda_test::WithGpu {
 protected:
  struct Member {
    std::optional<cuda::DeviceBuffer> pages;
    std::vector<Piece> pieces;
    std::vector<Place> places;
    std::unique_ptr<NcclCollective> collective;
    std::vector<bool> right;
    bool ended = false;
  };

  void SetUp() override {
    set_log_level(LogLevel::error);
    WithGpu::SetUp();
    if (IsSkipped()) return;
    const auto library = nccl::Library::load(FAKE_NCCL).value();
    for (std::uint32_t rank = 0; rank < members_.size(); ++rank) {
      Member& member = members_[rank];
      member.pages.emplace(cuda::DeviceBuffer::allocate(device_, kBlocks * kBlockBytes).value());
      std::byte* const pages = memory_of(*member.pages);
      std::memset(pages, 0xee, kBlocks * kBlockBytes);
      for (std::uint32_t i = 0; i < kBlocks; ++i) {
        member.pieces.push_back({pages + i * kBlockBytes, kBlockBytes});
      }
      for (const Piece& piece : member.pieces) {
        member.places.emplace_back(std::span<const Piece>(&piece, 1));
      }
      member.collective = std::make_unique<NcclCollective>(loop_, library, device_, kChunkBytes,
                                                           rank, members_.size());
    }
  }
  void TearDown() override {
    nccl::fake::hang(false);
    nccl::fake::block(false);
    for (Member& member : members_) {
      if (member.collective) close(member);
      member.collective.reset();
    }
    for (Member& member : members_) member.pages.reset();
    // A thread that was left behind gives everything back once it can.
    turn_until([this] { return nccl::fake::open() == 0 && device_.use_count() <= 1; });
    WithGpu::TearDown();
  }

  template <class Over>
  void turn_until(Over over) {
    const TimePoint last = clock_.now() + seconds(20);
    while (!over()) {
      ASSERT_LT(clock_.now(), last) << "it does not come to that";
      if (!loop_.turn()) std::this_thread::yield();
    }
  }
  void spawn(Task<> task, bool& ended) {
    ended = false;
    loop_.spawn(tell(std::move(task), ended));
  }
  static Task<> tell(Task<> task, bool& ended) {
    Task<> mine = std::move(task);
    co_await mine;
    ended = true;
  }
  void close(Member& member) {
    bool closed = false;
    spawn(member.collective->close(), closed);
    turn_until([&] { return closed; });
  }
  wire::CollectiveId make_id() {
    wire::CollectiveId id{};
    bool made = false;
    spawn(make_id(*members_[0].collective, id), made);
    turn_until([&] { return made; });
    return id;
  }
  static Task<> make_id(NcclCollective& collective, wire::CollectiveId& id) {
    Task<wire::CollectiveId> making = collective.make_id(TimePoint::max() - std::chrono::hours(1));
    id = co_await making;
  }
  void begin(Member& member, const wire::CollectiveId& id, Duration time) {
    CollectiveJob job;
    job.id = id;
    job.chunk_blocks = member.collective->most_blocks(kBlockBytes, 1);
    if (job.chunk_blocks == 0) job.chunk_blocks = 1;
    job.block_bytes = kBlockBytes;
    job.places = &member.places;
    job.deadline = clock_.now() + time;
    spawn(run(member, job), member.ended);
  }
  static Task<> run(Member& member, CollectiveJob job) {
    Task<std::vector<bool>> running = member.collective->run(job);
    member.right = co_await running;
  }
  void both(const wire::CollectiveId& id, Duration time) {
    const std::vector<std::byte> content = noise(kBlocks * kBlockBytes, ++seed_);
    std::memcpy(memory_of(*members_[0].pages), content.data(), content.size());
    for (Member& member : members_) begin(member, id, time);
    turn_until([&] { return members_[0].ended && members_[1].ended; });
  }
  [[nodiscard]] bool all_right() const {
    const std::vector<bool> all(kBlocks, true);
    const bool same = std::memcmp(memory_of(*members_[0].pages), memory_of(*members_[1].pages),
                                  kBlocks * kBlockBytes) == 0;
    return same && members_[0].right == all && members_[1].right == all;
  }

  static constexpr wire::CollectiveId kNone{};
  SteadyClock clock_;
  Loop loop_{clock_};
  std::array<Member, 2> members_;
  std::uint64_t seed_ = 0;
};

TEST_F(NcclCollectives, KeepTheirCommunicatorWhileItWorks) {
  const wire::CollectiveId id = make_id();
  EXPECT_NE(id, kNone);
  for (int round = 0; round < 3; ++round) {
    both(id, seconds(20));
    EXPECT_TRUE(all_right());
    EXPECT_EQ(members_[0].collective->current(), id);
  }
  EXPECT_EQ(nccl::fake::open(), 2U);
  both(make_id(), seconds(20));
  EXPECT_TRUE(all_right());
  EXPECT_EQ(nccl::fake::open(), 2U) << "the old one was given back";
}

TEST_F(NcclCollectives, EndAtTheDeadlineAndWorkAgainWithANewOne) {
  nccl::fake::hang(true);
  both(make_id(), milliseconds(50));
  EXPECT_FALSE(all_right());
  EXPECT_EQ(members_[0].collective->current(), kNone);
  nccl::fake::hang(false);
  both(make_id(), seconds(20));
  EXPECT_TRUE(all_right());
}

TEST_F(NcclCollectives, EndWhenTheyAreStopped) {
  nccl::fake::hang(true);
  const wire::CollectiveId id = make_id();
  for (Member& member : members_) begin(member, id, seconds(600));
  for (Member& member : members_) member.collective->stop();
  turn_until([&] { return members_[0].ended && members_[1].ended; });
  EXPECT_FALSE(all_right());
}

/// A call of NCCL that does not come back holds up neither the loop nor the end.
TEST_F(NcclCollectives, AreLeftBehindWhenNcclDoesNotLetGo) {
  const wire::CollectiveId id = make_id();
  nccl::fake::block(true);
  begin(members_[0], id, milliseconds(50));
  turn_until([&] { return members_[0].ended; });
  EXPECT_EQ(members_[0].right, std::vector<bool>(kBlocks, false));
  EXPECT_EQ(members_[0].collective->most_blocks(kBlockBytes, 1), 0U) << "not asked any more";
  close(members_[0]);
  members_[0].collective.reset();
  members_[0].places.clear();
  nccl::fake::block(false);
}

TEST_F(NcclCollectives, MayBeClosedUnused) {
  for (Member& member : members_) close(member);
  EXPECT_EQ(nccl::fake::open(), 0U);
}

}  // namespace
}  // namespace membrain
