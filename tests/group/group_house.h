// Groups on a simulated network: members with memory, on the host or on the fake GPU.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "cache/group/replicating.h"
#include "protocol/proofs.h"
#include "tests/cuda/fake_driver.h"
#include "transport/cuda/kernel_image.h"
#include "transport/sim_network.h"

namespace membrain::group_test {

using std::chrono::milliseconds;
using std::chrono::seconds;

inline constexpr std::size_t kBlockBytes = 300 * 1024;
inline constexpr std::uint32_t kBlocks = 10;
inline constexpr int kGpu = 0;
/// Larger than any chunk: as a lane does whose payloads come with their messages.
inline constexpr std::uint64_t kAllEager = std::uint64_t{2} << 20;

/// One member: a process with memory for its blocks.
struct Member {
  Member(SimNetwork& network, ManualClock& clock, std::string process, GroupTerms terms)
      : name(std::move(process)),
        loop(clock),
        fabric(network.make_fabric(loop, name)),
        links(*fabric, std::move(terms)),
        memory(kBlocks * kBlockBytes) {
    EXPECT_TRUE(links.listen(name));
  }

  std::string name;
  Loop loop;
  std::unique_ptr<Fabric> fabric;
  GroupLinks links;
  std::vector<std::byte> memory;
  std::byte* blocks = memory.data();  ///< or on a GPU
  std::vector<Piece> pieces;
  std::unique_ptr<DeviceLane> lane;
  std::unique_ptr<Collective> collective;
  std::unique_ptr<Replicating> call;
  std::optional<Result<TransferReport>> end;
};

class Replication : public testing::Test {
 protected:
  Replication() : network_(clock_, 7) { set_log_level(LogLevel::error); }
  void TearDown() override {
    network_.set_faults({});
    network_.heal_partitions();
    for (const auto& member : members_) network_.resume(member->name);
    for (const auto& member : members_) {
      std::optional<bool> stopped;
      member->loop.spawn(stop(*member, stopped));
      step_until([&] { return stopped.has_value(); });
    }
  }

  void make(std::uint32_t size, const std::string& secret_of_last = "secret") {
    GroupTerms terms;
    terms.name = "a group";
    for (std::uint32_t rank = 0; rank < size; ++rank) terms.members.push_back(name_of(rank));
    for (std::uint32_t rank = 0; rank < size; ++rank) {
      terms.rank = rank;
      terms.tenant_key = tenant_key(rank + 1 == size ? secret_of_last : "secret", "tenant");
      members_.push_back(std::make_unique<Member>(network_, clock_, name_of(rank), terms));
    }
  }
  static std::string name_of(std::uint32_t rank) { return "member" + std::to_string(rank); }

  static std::vector<std::byte> content(unsigned seed) {
    std::vector<std::byte> bytes(kBlocks * kBlockBytes);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<std::byte>(i * 7 + i / 253 + seed * 31);
    }
    return bytes;
  }

  /// Its call of the replication from `root`.
  void call(std::uint32_t rank, std::uint32_t root, milliseconds timeout = seconds(5),
            std::uint64_t names = 1) {
    Member& member = *members_[rank];
    ReplicateJob job;
    job.sequence = sequence_;
    job.root = root;
    job.block_bytes = block_bytes_;
    job.names = {names, 2};
    job.lane = member.lane.get();
    job.collective = member.collective.get();
    job.deadline = clock_.now() + timeout;
    member.pieces.clear();
    for (std::uint32_t i = 0; i < blocks_; ++i) {
      member.pieces.push_back({member.blocks + i * block_bytes_, block_bytes_});
    }
    for (const Piece& piece : member.pieces) {
      job.places.emplace_back(std::span<const Piece>(&piece, 1));
    }
    member.end.reset();
    member.call = std::make_unique<Replicating>(member.links, std::move(job));
    member.loop.spawn(run(member));
  }
  /// All of them, at once; waits for their ends.
  void replicate(std::uint32_t root) {
    ++sequence_;
    sent_ = content(sequence_);
    std::ranges::copy(sent_, members_[root]->blocks);
    for (std::uint32_t rank = 0; rank < members_.size(); ++rank) call(rank, root);
    settle();
  }
  /// The root calls at once, as does member 2; member 3 late, and member 1 later still.
  void come_late() {
    make(4);
    sequence_ = 1;
    sent_ = content(1);
    std::ranges::copy(sent_, members_[0]->blocks);
    call(0, 0);
    call(2, 0);
    run_for(milliseconds(500));
    EXPECT_FALSE(members_[0]->end);
    call(3, 0);
    run_for(milliseconds(500));
    call(1, 0);
    settle();
  }
  void settle() {
    for (const auto& member : members_) {
      step_until([&] { return !member->call || member->end.has_value(); });
    }
  }
  [[nodiscard]] std::size_t ok(std::uint32_t rank) const {
    const auto& end = members_[rank]->end;
    if (!*end) return 0;
    return static_cast<std::size_t>(std::ranges::count((*end)->items, true, &ItemOutcome::ok));
  }
  /// What the member says that it has, it has.
  void expect_right(std::uint32_t rank) {
    const Member& member = *members_[rank];
    if (!*member.end) return;
    for (std::size_t i = 0; i < blocks_; ++i) {
      if (!(*member.end)->items[i].ok) continue;
      const std::size_t at = i * block_bytes_;
      EXPECT_EQ(std::memcmp(member.blocks + at, sent_.data() + at, block_bytes_), 0)
          << "member " << rank << ", block " << i;
    }
  }
  void expect_all() {
    for (std::uint32_t rank = 0; rank < members_.size(); ++rank) {
      ASSERT_TRUE(*members_[rank]->end) << (*members_[rank]->end).error().context;
      EXPECT_EQ(ok(rank), blocks_) << "member " << rank;
      expect_right(rank);
    }
  }

  static Task<> run(Member& member) {
    Task<Result<TransferReport>> running = member.call->run();
    Result<TransferReport> report = co_await running;
    member.end.emplace(std::move(report));
  }
  static Task<> stop(Member& member, std::optional<bool>& stopped) {
    Task<> stopping = member.links.stop();
    co_await stopping;
    stopped = true;
  }
  template <class Condition>
  void step_until(Condition condition) {
    for (int i = 0; i < 400'000 && !condition(); ++i) {
      cuda::fake::settle();
      network_.step();
    }
    ASSERT_TRUE(condition()) << "it does not come to that";
  }
  void run_for(Duration time) {
    const TimePoint until = clock_.now() + time;
    Timer mark(members_[0]->loop, [] {});  // else the clock goes on to whatever comes next
    mark.arm(until);
    step_until([&] { return clock_.now() >= until; });
  }

  ManualClock clock_;
  SimNetwork network_;
  std::vector<std::unique_ptr<Member>> members_;
  const TimePoint begun_ = clock_.now();
  std::uint32_t blocks_ = kBlocks;         ///< of a call; they fit a member's memory
  std::size_t block_bytes_ = kBlockBytes;  ///< likewise
  std::uint32_t sequence_ = 0;
  std::vector<std::byte> sent_;
};

class ReplicationOnGpus : public Replication {
 protected:
  void SetUp() override {
    if (cuda::kernel_image().empty()) GTEST_SKIP() << "built without clang: no GPU kernels";
    gpu_ = cuda::Device::open(cuda::Driver::load(FAKE_CUDA).value(), kGpu).value();
  }
  void TearDown() override {
    Replication::TearDown();
    members_.clear();
    caches_.clear();
    gpu_.reset();
    EXPECT_EQ(cuda::fake::owned(), 0U) << "something was not given back to the driver";
  }
  void onto_gpu(std::uint32_t rank) {
    Member& member = *members_[rank];
    caches_.push_back(cuda::DeviceBuffer::allocate(gpu_, kBlocks * kBlockBytes).value());
    member.blocks = reinterpret_cast<std::byte*>(caches_.back().address());
    member.lane = DeviceLane::open(member.loop, gpu_, 2, 1 << 20).value();
  }
  std::shared_ptr<const cuda::Device> gpu_;
  std::vector<cuda::DeviceBuffer> caches_;
};

}  // namespace membrain::group_test
