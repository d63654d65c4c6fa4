// Blocks from one member's pages to those of all: right, or not at all; in time, whatever fails.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/log.h"
#include "tests/cuda/gpu_fixture.h"
#include "tests/nccl/fake_nccl.h"
#include "transport/nccl/block_broadcast.h"

namespace membrain::nccl {
namespace {

using cuda_test::memory_of;
using cuda_test::noise;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t kChunkBytes = 256 * 1024;
constexpr std::uint32_t kPieces = 3;  // of a block

class NcclBroadcast : public cuda_test::WithGpu {
 protected:
  struct Member {
    std::optional<cuda::DeviceBuffer> pages;
    std::optional<Result<>> joined;
    std::optional<Result<>> ran;
    std::vector<bool> right;
    PageGate gate;
    std::optional<Patience> patience;
    std::unique_ptr<BlockBroadcast> broadcast;
    std::unique_ptr<Communicator> communicator;
  };

  void SetUp() override {
    set_log_level(LogLevel::error);
    WithGpu::SetUp();
    if (IsSkipped()) return;
    library_ = Library::load(FAKE_NCCL).value();
  }
  void TearDown() override {
    fake::hang(false);
    fake::lose_member(false);
    fake::spoil_every(0);
    fake::fail_call(1'000'000, kSuccess);
    // All of them: freeing memory waits for everybody's work on the one GPU that they share.
    for (const auto& member : members_) member->communicator.reset();
    members_.clear();
    EXPECT_EQ(fake::open(), 0U);
    WithGpu::TearDown();
  }

  void make(std::uint32_t size) {
    for (std::uint32_t rank = 0; rank < size; ++rank) {
      Member& member = *members_.emplace_back(std::make_unique<Member>());
      member.pages.emplace(cuda::DeviceBuffer::allocate(device_, kPageBytes).value());
      std::memset(memory_of(*member.pages), 0xee, kPageBytes);
      member.broadcast = BlockBroadcast::create(device_, kChunkBytes).value();
    }
  }
  /// `work(rank)` on a thread for each of the first `size` members.
  template <class Work>
  static void each(std::uint32_t size, Work work) {
    std::vector<std::jthread> threads;
    for (std::uint32_t rank = 0; rank < size; ++rank) threads.emplace_back(work, rank);
  }
  void join(std::uint32_t present, milliseconds time = seconds(10)) {
    join(library_->make_id().value(), present, time);
  }
  void join(const UniqueId& id, std::uint32_t present, milliseconds time) {
    const auto size = static_cast<std::uint32_t>(members_.size());
    each(present, [&](std::uint32_t rank) {
      Member& member = *members_[rank];
      Patience patience(clock_, clock_.now() + time);
      auto made = Communicator::create(library_, device_, id, rank, size, patience);
      member.joined.emplace();
      if (made) member.communicator = std::move(*made);
      if (!made) member.joined.emplace(fail(made.error()));
    });
  }
  /// Block b's pieces lie backwards and apart, at another place in every member.
  BlockSet set(std::uint32_t rank, std::uint32_t root, std::uint32_t blocks,
               std::uint64_t block_bytes, std::uint32_t chunk_blocks) {
    BlockSet set{root, blocks, chunk_blocks, block_bytes, {}};
    const cuda::Address pages = members_[rank]->pages->address();
    set.pieces_of = [=](std::uint32_t block, std::vector<cuda::DevicePiece>& pieces) {
      for (std::uint32_t piece = 0; piece < kPieces; ++piece) {
        pieces.push_back(
            {pages + place_of(rank, block, piece, block_bytes), bytes_of(piece, block_bytes)});
      }
    };
    return set;
  }
  static std::uint64_t bytes_of(std::uint32_t piece, std::uint64_t block_bytes) {
    const std::uint64_t each = block_bytes / kPieces;
    return piece + 1 == kPieces ? block_bytes - 2 * each : each;
  }
  static std::uint64_t place_of(std::uint32_t rank, std::uint32_t block, std::uint32_t piece,
                                std::uint64_t block_bytes) {
    const std::uint64_t room = block_bytes + 64;
    return ((kMostBlocks - 1 - block + rank) % kMostBlocks * kPieces + piece) *
           (room / kPieces + 16);
  }
  std::vector<std::byte> held(std::uint32_t rank, std::uint32_t block, std::uint64_t block_bytes) {
    std::vector<std::byte> bytes;
    for (std::uint32_t piece = 0; piece < kPieces; ++piece) {
      const std::byte* const from =
          memory_of(*members_[rank]->pages) + place_of(rank, block, piece, block_bytes);
      bytes.insert(bytes.end(), from, from + bytes_of(piece, block_bytes));
    }
    return bytes;
  }
  void run(std::uint32_t root, std::uint32_t blocks, std::uint64_t block_bytes,
           std::uint32_t chunk_blocks, milliseconds time = seconds(20)) {
    const std::vector<std::byte> content = noise(kPageBytes, ++seed_);
    std::memcpy(memory_of(*members_[root]->pages), content.data(), kPageBytes);
    each(static_cast<std::uint32_t>(members_.size()), [&](std::uint32_t rank) {
      Member& member = *members_[rank];
      member.patience.emplace(clock_, clock_.now() + time);
      member.ran.emplace(member.broadcast->run(*member.communicator,
                                               set(rank, root, blocks, block_bytes, chunk_blocks),
                                               *member.patience, member.gate, member.right));
    });
  }
  [[nodiscard]] std::size_t count_right(std::uint32_t rank) const {
    const auto& right = members_[rank]->right;
    return static_cast<std::size_t>(std::count(right.begin(), right.end(), true));
  }
  /// What a member says is right is what the root has; the rest was not touched (or it came right,
  /// and the GPU failed before it could say so).
  void expect_right(std::uint32_t root, std::uint32_t blocks, std::uint64_t block_bytes) {
    const std::vector<std::byte> untouched(block_bytes, std::byte{0xee});
    for (std::uint32_t rank = 0; rank < members_.size(); ++rank) {
      if (rank == root) continue;
      for (std::uint32_t block = 0; block < blocks; ++block) {
        const std::vector<std::byte> here = held(rank, block, block_bytes);
        const bool came = here == held(root, block, block_bytes);
        EXPECT_TRUE(came || (here == untouched && !members_[rank]->right[block]))
            << "member " << rank << ", block " << block;
      }
    }
  }

  static constexpr std::uint32_t kMostBlocks = 24;
  static constexpr std::size_t kPageBytes = kMostBlocks * kPieces * 40'000;

  std::shared_ptr<const Library> library_;
  std::vector<std::unique_ptr<Member>> members_;
  SteadyClock clock_;
  std::uint64_t seed_ = 0;
};

TEST_F(NcclBroadcast, BringsTheRootsBlocksToAllFromAnyRoot) {
  make(3);
  join(3);
  for (const std::uint64_t bytes : {241U, 5000U, 100'003U}) {
    const std::uint32_t chunk = BlockBroadcast::most_blocks(kChunkBytes, bytes, 4 * kPieces);
    ASSERT_GE(chunk, 1U);
    for (std::uint32_t root = 0; root < 3; ++root) {
      run(root, kMostBlocks, bytes, std::min(chunk, 5U));
      for (std::uint32_t rank = 0; rank < 3; ++rank) {
        ASSERT_TRUE(*members_[rank]->ran) << members_[rank]->ran->error().context;
        EXPECT_EQ(count_right(rank), kMostBlocks);
      }
      expect_right(root, kMostBlocks, bytes);
    }
  }
}

TEST_F(NcclBroadcast, KeepsNothingThatIsNotRight) {
  make(2);
  join(2);
  fake::spoil_every(2);
  run(0, kMostBlocks, 20'000, 1);
  EXPECT_TRUE(*members_[1]->ran);
  EXPECT_EQ(count_right(1), kMostBlocks / 2);
  expect_right(0, kMostBlocks, 20'000);
  for (std::uint32_t block = 0; block < kMostBlocks; ++block) {
    EXPECT_EQ(held(1, block, 20'000)[7] == std::byte{0xee}, !members_[1]->right[block]);
  }
}

TEST_F(NcclBroadcast, AMemberThatDoesNotComeIsToldInTime) {
  make(3);
  join(2, milliseconds(50));
  for (std::uint32_t rank = 0; rank < 2; ++rank) {
    ASSERT_FALSE(*members_[rank]->joined);
    EXPECT_EQ(members_[rank]->joined->error().code, Errc::timed_out);
  }
}

TEST_F(NcclBroadcast, OneThatHangsEndsAtTheDeadlineOrWhenItIsStopped) {
  make(2);
  join(2);
  fake::hang(true);
  run(0, 4, 20'000, 1, milliseconds(50));
  for (const auto& member : members_) {
    ASSERT_FALSE(*member->ran);
    EXPECT_EQ(member->ran->error().code, Errc::timed_out);
  }
  expect_right(0, 4, 20'000);
  for (const auto& member : members_) member->communicator.reset();
  fake::hang(false);
  join(2);
  fake::hang(true);
  for (const auto& member : members_) {
    member->patience.emplace(clock_, TimePoint::max());
    member->patience->stop();
    member->ran.emplace(member->broadcast->run(*member->communicator,
                                               set(member == members_[0] ? 0 : 1, 0, 4, 20'000, 1),
                                               *member->patience, member->gate, member->right));
  }
  EXPECT_FALSE(*members_[0]->ran);
  EXPECT_FALSE(*members_[1]->ran);
}

TEST_F(NcclBroadcast, AMemberThatIsLostEndsIt) {
  make(2);
  join(2);
  fake::hang(true);
  fake::lose_member(true);
  run(0, 4, 20'000, 1);
  for (const auto& member : members_) {
    ASSERT_FALSE(*member->ran);
    EXPECT_EQ(member->ran->error().code, Errc::peer_lost);
  }
}

TEST_F(NcclBroadcast, TouchesNoPagesOnceTheGateIsShut) {
  make(2);
  join(2);
  EXPECT_TRUE(members_[1]->gate.shut());
  run(0, 4, 20'000, 2, milliseconds(300));
  EXPECT_FALSE(*members_[1]->ran);
  EXPECT_EQ(count_right(1), 0U);
  expect_right(0, 4, 20'000);
}

/// Whatever call of NCCL or of the driver fails: an error, no wrong byte, nothing left behind.
TEST_F(NcclBroadcast, EveryCallMayFail) {
  make(2);
  constexpr Status kSystemError = 2;
  std::size_t failed = 0;
  for (std::uint64_t skip = 0; skip < 60; ++skip) {
    const UniqueId id = library_->make_id().value();
    for (const auto& member : members_) {
      member->communicator.reset();
      std::memset(memory_of(*member->pages), 0xee, kPageBytes);
    }
    const bool driver = skip % 2 == 0;
    if (driver) cuda::fake::fail_call(3 * skip, cuda::kOutOfMemory);
    if (!driver) fake::fail_call(skip / 2, kSystemError);
    join(id, 2, milliseconds(40));
    if (members_[0]->communicator && members_[1]->communicator) {
      run(0, 6, 20'000, 2, milliseconds(40));
      if (!*members_[0]->ran || !*members_[1]->ran) ++failed;
      expect_right(0, 6, 20'000);
    } else {
      ++failed;
    }
    cuda::fake::repair();
    fake::fail_call(1'000'000, kSuccess);
  }
  EXPECT_GT(failed, 10U);
}

TEST_F(NcclBroadcast, SaysHowManyBlocksGoAtOnce) {
  EXPECT_EQ(BlockBroadcast::most_blocks(1 << 20, 240, 1), 0U) << "too short to be hashed";
  EXPECT_EQ(BlockBroadcast::most_blocks(1 << 20, (1 << 20) + 1, 33), 0U) << "too long";
  EXPECT_EQ(BlockBroadcast::most_blocks(1 << 20, 1 << 18, 8), 4U);
  EXPECT_EQ(BlockBroadcast::most_blocks(1 << 20, 256, 1), BlockBroadcast::kMaxBlocks);
  EXPECT_EQ(BlockBroadcast::most_blocks(1 << 20, 4096, 10'000), 1U);
  EXPECT_EQ(BlockBroadcast::most_blocks(1 << 20, 4096, 20'000), 0U) << "in too many pieces";
}

TEST(NcclLibrary, OldOnesAndStrangeOnesAreNotUsed) {
  set_log_level(LogLevel::error);
  EXPECT_EQ(Library::load("libnot-nccl.so.7").error().code, Errc::unavailable);
  EXPECT_EQ(Library::load("libm.so.6").error().code, Errc::unavailable);
  const auto library = Library::load(FAKE_NCCL);
  ASSERT_TRUE(library);
  EXPECT_EQ((*library)->version(), 22203);
  fake::set_version(21805);
  EXPECT_EQ(Library::load(FAKE_NCCL).error().code, Errc::unavailable);
  fake::set_version(22203);
}

}  // namespace
}  // namespace membrain::nccl
