// What a fetch takes from the heap, on every thread that has a part in it: client and node, our
// code and UCX's, over real connections.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <vector>

#include "base/log.h"
#include "bench/local_cluster.h"

// glibc's own, behind the names that this program takes over.
extern "C" {
void* __libc_malloc(std::size_t size);
void __libc_free(void* memory);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* memory, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
}

namespace {

std::atomic<std::uint64_t> all_allocations{0};  ///< malloc and its kin, operator new among them
std::atomic<std::uint64_t> own_allocations{0};  ///< operator new: C++ code, so not UCX

void count_one() noexcept {
  all_allocations.fetch_add(1, std::memory_order_relaxed);
}

void* made(std::size_t size, std::size_t alignment) {
  own_allocations.fetch_add(1, std::memory_order_relaxed);
  count_one();
  void* memory = alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__ ? __libc_malloc(size)
                                                               : __libc_memalign(alignment, size);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

extern "C" {
void* malloc(std::size_t size) {
  count_one();
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  count_one();
  return __libc_calloc(count, size);
}
void* realloc(void* memory, std::size_t size) {
  count_one();
  return __libc_realloc(memory, size);
}
void* memalign(std::size_t alignment, std::size_t size) {
  count_one();
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  count_one();
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t size) {
  count_one();
  *memory = __libc_memalign(alignment, size);
  return *memory == nullptr ? ENOMEM : 0;
}
}

void* operator new(std::size_t size) {
  return made(size, 0);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  return made(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept {
  __libc_free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  __libc_free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  __libc_free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  __libc_free(memory);
}

namespace membrain {
namespace {

constexpr std::size_t kFew = 16;
constexpr std::size_t kMany = 256;
/// What one operation may take, however many blocks it fetches: the lists that it is planned in,
/// its report, and what wakes whoever waits for it.
constexpr std::uint64_t kMostPerOperation = 24;

struct Allocations {
  std::uint64_t own = 0;
  std::uint64_t all = 0;
};

/// A cluster with blocks to fetch.
class Fetched {
 public:
  Fetched(std::size_t block_bytes, std::size_t pieces, bool caller_drives)
      : cluster_(config_of(block_bytes, caller_drives)), memory_(kMany * block_bytes) {
    EXPECT_TRUE(cluster_.store(1, kMany, block_bytes));
    match_ = cluster_.lookup(1, kMany);
    EXPECT_EQ(match_.prefix_blocks(), kMany);
    for (std::size_t i = 0; i < kMany; ++i) {
      FetchItem item;
      item.block = static_cast<std::uint32_t>(i);
      const std::size_t piece_bytes = block_bytes / pieces;
      for (std::size_t j = 0; j < pieces; ++j) {  // side by side with other blocks' pieces
        item.into.push_back({memory_.data() + (j * kMany + i) * piece_bytes, piece_bytes});
      }
      items_.push_back(item);
    }
  }

  /// The least that a fetch of the first `blocks` takes: what else goes on in the process meanwhile
  /// (heartbeats) is in some of the fetches only.
  Allocations least(std::size_t blocks) {
    constexpr int kWarmUp = 8;
    constexpr int kCounted = 12;
    const std::vector<FetchItem> items(items_.begin(),
                                       items_.begin() + static_cast<std::ptrdiff_t>(blocks));
    Allocations least{~std::uint64_t{0}, ~std::uint64_t{0}};
    for (int i = 0; i < kWarmUp + kCounted; ++i) {
      const std::uint64_t own = own_allocations.load();
      const std::uint64_t all = all_allocations.load();
      if (!cluster_.fetch(match_, items)) ADD_FAILURE() << "a fetch failed";
      if (i < kWarmUp) continue;
      least.own = std::min(least.own, own_allocations.load() - own);
      least.all = std::min(least.all, all_allocations.load() - all);
    }
    return least;
  }
  [[nodiscard]] const std::string& lane() const noexcept { return cluster_.lane(); }

 private:
  static InProcessClusterConfig config_of(std::size_t block_bytes, bool caller_drives) {
    InProcessClusterConfig config;
    config.transports = "tcp,self";
    config.capacity_bytes = kMany * block_bytes + (std::size_t{64} << 20);
    config.caller_drives = caller_drives;
    return config;
  }

  InProcessCluster cluster_;
  std::vector<std::byte> memory_;
  std::vector<FetchItem> items_;
  Match match_;
};

/// `whole_process`: UCX's allocations are looked at too. It makes one for each message that comes
/// with its bytes in more than one TCP segment (docs/adr/0011): messages of small blocks fit one.
void expect_no_growth(std::size_t block_bytes, std::size_t pieces, bool caller_drives,
                      bool whole_process = true) {
  set_log_level(LogLevel::error);
  Fetched fetched(block_bytes, pieces, caller_drives);
  const Allocations many = fetched.least(kMany);
  const Allocations few = fetched.least(kFew);
  EXPECT_EQ(fetched.lane(), "tcp");
  testing::Test::RecordProperty("own", static_cast<int>(few.own));
  testing::Test::RecordProperty("all", static_cast<int>(few.all));
  EXPECT_LE(many.own, few.own) << "our code allocates for every block";
  EXPECT_LE(few.own, kMostPerOperation);
  if (!whole_process) return;
  EXPECT_LE(many.all, few.all) << "something allocates for every block";
  EXPECT_LE(few.all, kMostPerOperation);
}

TEST(FetchAllocations, DoNotGrowWithTheNumberOfBlocksOf64KiB) {
  expect_no_growth(std::size_t{64} << 10, 1, false);
}

TEST(FetchAllocations, DoNotGrowWithTheNumberOfBlocksOf1MiB) {
  expect_no_growth(std::size_t{1} << 20, 1, false, false);
}

TEST(FetchAllocations, DoNotGrowWithTheNumberOfBlocksInPieces) {
  expect_no_growth(std::size_t{64} << 10, 32, false);
}

TEST(FetchAllocations, DoNotGrowWithTheNumberOfBlocksWhenTheCallerTurnsTheLoop) {
  expect_no_growth(std::size_t{64} << 10, 1, true);
}

}  // namespace
}  // namespace membrain
