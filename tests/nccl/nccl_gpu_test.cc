// A broadcast between two processes on this machine's GPU, by its own NCCL; on the fake ones, which
// MEMBRAIN_TEST_CUDA and MEMBRAIN_TEST_NCCL name, between two threads.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "transport/cuda/stream.h"
#include "transport/nccl/block_broadcast.h"

namespace membrain::nccl {
namespace {

constexpr std::uint32_t kMembers = 2;
constexpr std::uint32_t kBlocks = 64;
constexpr std::uint32_t kPieces = 8;
constexpr std::uint64_t kPieceBytes = 32 * 1024;
constexpr std::uint64_t kBlockBytes = kPieces * kPieceBytes;
constexpr std::uint64_t kChunkBytes = 4 << 20;
constexpr auto kLongest = std::chrono::seconds(60);

const char* named(const char* variable, const char* otherwise) {
  const char* const value = std::getenv(variable);
  return value != nullptr ? value : otherwise;
}
const char* driver_name() {
  return named("MEMBRAIN_TEST_CUDA", "libcuda.so.1");
}
const char* library_name() {
  return named("MEMBRAIN_TEST_NCCL", "libnccl.so.2");
}

std::vector<std::byte> noise(std::size_t bytes) {
  std::vector<std::byte> made(bytes);
  std::uint32_t state = 1;
  for (std::byte& one : made) {
    state = state * 1664525 + 1013904223;
    one = static_cast<std::byte>(state >> 24);
  }
  return made;
}

/// How one member tells the other something.
template <class T>
class Pipe {
 public:
  Pipe() { EXPECT_EQ(::pipe(ends_.data()), 0); }
  ~Pipe() { ::close(ends_[0]), ::close(ends_[1]); }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  bool write(const T& word) const {
    return ::write(ends_[1], &word, sizeof word) == static_cast<ssize_t>(sizeof word);
  }
  /// False if nothing came in time: whoever should have written may have failed.
  bool read(T& word) const {
    constexpr auto kLongestMs = std::chrono::milliseconds(kLongest);
    pollfd end{ends_[0], POLLIN, 0};
    return ::poll(&end, 1, static_cast<int>(kLongestMs.count())) == 1 &&
           ::read(ends_[0], &word, sizeof word) == static_cast<ssize_t>(sizeof word);
  }

 private:
  std::array<int, 2> ends_{};
};

struct Pipes {
  Pipe<UniqueId> id;    ///< from the first member
  Pipe<bool> all_came;  ///< to it: only then it may leave
};

/// One member's whole life. Why it failed; empty if it did not.
std::string live(std::uint32_t rank, const Pipes& pipes) {
  const auto driver = cuda::Driver::load(driver_name());
  if (!driver) return std::string(driver.error().context);
  const auto device = cuda::Device::open(*driver, 0);
  if (!device) return std::string(device.error().context);
  const auto library = Library::load(library_name());
  if (!library) return std::string(library.error().context);
  UniqueId id;
  if (rank == 0) {
    const auto made = (*library)->make_id();
    if (!made || !pipes.id.write(*made)) return "no id";
    id = *made;
  } else if (!pipes.id.read(id)) {
    return "no id came";
  }
  SteadyClock clock;
  Patience patience(clock, clock.now() + kLongest);
  auto pages = cuda::DeviceBuffer::allocate(*device, kBlocks * kBlockBytes);
  auto stream = cuda::Stream::create(*device);
  auto broadcast = BlockBroadcast::create(*device, kChunkBytes);
  if (!pages || !stream || !broadcast) return "no memory";
  auto communicator = Communicator::create(*library, *device, id, rank, kMembers, patience);
  if (!communicator) return std::string(communicator.error().context);

  const std::vector<std::byte> sent = noise(kBlocks * kBlockBytes);
  std::vector<std::byte> here(sent.size());
  auto copy = [&](cuda::Address to, cuda::Address from) {
    return stream->copy(to, from, sent.size()) && stream->synchronize();
  };
  const auto in_host = reinterpret_cast<cuda::Address>(sent.data());
  if (rank == 0 && !copy(pages->address(), in_host)) return "no copy";

  BlockSet set{
      0, kBlocks, BlockBroadcast::most_blocks(kChunkBytes, kBlockBytes, kPieces), kBlockBytes, {}};
  // In planes, as engines keep them; backwards at the members that get them.
  set.pieces_of = [&](std::uint32_t block, std::vector<cuda::DevicePiece>& pieces) {
    const std::uint64_t at = rank == 0 ? block : kBlocks - 1 - block;
    for (std::uint64_t plane = 0; plane < kPieces; ++plane) {
      pieces.push_back({pages->address() + (plane * kBlocks + at) * kPieceBytes, kPieceBytes});
    }
  };
  std::vector<bool> right;
  PageGate gate;
  const Result<> ran = (*broadcast)->run(**communicator, set, patience, gate, right);
  if (!ran) return std::string(ran.error().context);
  if (right != std::vector<bool>(kBlocks, true)) return "a block did not come right";
  if (!copy(reinterpret_cast<cuda::Address>(here.data()), pages->address())) return "no copy";
  for (std::uint64_t piece = 0; rank != 0 && piece < kPieces * kBlocks; ++piece) {
    const std::uint64_t plane = piece / kBlocks;
    const std::uint64_t from = plane * kBlocks + (kBlocks - 1 - piece % kBlocks);
    if (!std::equal(&here[piece * kPieceBytes], &here[piece * kPieceBytes] + kPieceBytes,
                    &sent[from * kPieceBytes])) {
      return "a wrong byte";
    }
  }
  // A communicator that is destroyed drops what it still has to send.
  bool all_came = rank != 0;
  const bool told = rank == 0 ? pipes.all_came.read(all_came) : pipes.all_came.write(all_came);
  return told && all_came ? "" : "the other member did not say that all came";
}

/// A process that is a member. CUDA must not have been started before it.
pid_t fork_member(std::uint32_t rank, const Pipes& pipes) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  // Else NCCL refuses two members on one GPU.
  ::setenv("NCCL_HOSTID", ("membrain-test-" + std::to_string(rank)).c_str(), 1);
  const std::string why = live(rank, pipes);
  if (!why.empty()) std::fprintf(stderr, "member %u: %s\n", rank, why.c_str());
  std::_Exit(why.empty() ? 0 : 1);
}

TEST(NcclGpu, TwoMembersOnOneGpu) {
  const Pipes pipes;
  if (std::getenv("MEMBRAIN_TEST_CUDA") != nullptr) {
    std::array<std::string, kMembers> why;
    {
      std::vector<std::jthread> threads;
      for (std::uint32_t rank = 0; rank < kMembers; ++rank) {
        threads.emplace_back([&, rank] { why[rank] = live(rank, pipes); });
      }
    }
    for (const std::string& one : why) EXPECT_EQ(one, "");
    return;
  }
  // Whether there is a GPU is asked in a process of its own: CUDA does not survive a fork.
  const pid_t asking = ::fork();
  if (asking == 0) {
    const bool both = cuda::Driver::load(driver_name()) && Library::load(library_name());
    std::_Exit(both ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(asking, &status, 0), asking);
  if (status != 0) GTEST_SKIP() << "no NVIDIA driver, or no NCCL, on this machine";
  std::array<pid_t, kMembers> members{};
  for (std::uint32_t rank = 0; rank < kMembers; ++rank) members[rank] = fork_member(rank, pipes);
  for (const pid_t member : members) {
    ASSERT_EQ(::waitpid(member, &status, 0), member);
    EXPECT_EQ(status, 0);
  }
}

}  // namespace
}  // namespace membrain::nccl
