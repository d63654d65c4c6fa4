// An arena on huge pages that are set aside: on a hugetlbfs that the test mounts.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "cache/client/mapped_arena.h"
#include "cache/client/writable_arena.h"
#include "cache/node/adoption.h"
#include "cache/node/arena.h"
#include "cache/node/block_table.h"
#include "tests/node/sealed_blocks.h"

namespace membrain {
namespace {

constexpr std::uint64_t kHuge = 2 * kMiB;
constexpr const char* kPages = "/sys/kernel/mm/hugepages/hugepages-2048kB/";

std::uint64_t pages(const char* which) {
  std::uint64_t count = 0;
  std::ifstream(std::string(kPages) + which) >> count;
  return count;
}

/// A mount with so many free pages; what was set aside for it is given back.
class HugePages : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kCount = 8;

  void SetUp() override {
    std::string path = (std::filesystem::temp_directory_path() / "membrain-huge-XXXXXX").string();
    directory_ = ::mkdtemp(path.data());
    before_ = pages("nr_hugepages");
    const std::uint64_t taken = before_ - pages("free_hugepages") + pages("resv_hugepages");
    set_aside(std::max(before_, taken + kCount));
    if (pages("free_hugepages") < pages("resv_hugepages") + kCount) {
      GTEST_SKIP() << "missing: the right to set huge pages aside, or memory for them";
    }
    if (::mount("none", directory_.c_str(), "hugetlbfs", 0, "pagesize=2M") != 0) {
      GTEST_SKIP() << "missing: the right to mount a hugetlbfs";
    }
    mounted_ = true;
  }
  void TearDown() override {
    if (mounted_) ::umount2(directory_.c_str(), MNT_DETACH);
    set_aside(before_);
    std::filesystem::remove(directory_);
  }
  static void set_aside(std::uint64_t count) {
    std::ofstream(std::string(kPages) + "nr_hugepages") << count;
  }
  [[nodiscard]] ArenaConfig config(std::uint64_t capacity) const {
    return {"a", capacity, false, directory_};
  }

  std::string directory_;
  std::uint64_t before_ = 0;
  bool mounted_ = false;
};

void adopt(BlockTable& table, NodeCounters& counters) {
  Adoption adoption(table, counters, [](const SlotClaim&, WriterId) { ADD_FAILURE(); });
  while (!adoption.step(kMiB)) {
  }
}

TEST_F(HugePages, KeepANodesBlocksForItsNextLife) {
  NodeCounters counters;
  NodeId node;
  wire::SlotRef at;
  {
    const auto arena = Arena::open(config(5 * kMiB));
    ASSERT_TRUE(arena) << arena.error().context;
    EXPECT_EQ((*arena)->capacity_bytes(), 6 * kMiB) << "in whole pages, since they are taken";
    EXPECT_EQ((*arena)->mapping().size() % kHuge, 0U);
    EXPECT_EQ(pages("free_hugepages") - pages("resv_hugepages"), kCount - 4) << "all taken now";
    node = (*arena)->node();
    (*arena)->begin_life();
    BlockTable table(**arena, counters);
    at = put(table, 9, 100'000);
  }
  const auto arena = Arena::open(config(5 * kMiB));
  ASSERT_TRUE(arena) << arena.error().context;
  EXPECT_TRUE((*arena)->adopted());
  EXPECT_EQ((*arena)->node(), node);
  EXPECT_EQ((*arena)->begin_life().value, 2U);
  BlockTable table(**arena, counters);
  adopt(table, counters);
  std::vector<wire::SlotRef> found;
  table.for_each_sealed([&](const wire::SlotEntry& entry, std::span<const std::byte>) {
    found.push_back({entry.slot, entry.generation});
  });
  EXPECT_EQ(found, std::vector{at});
}

TEST_F(HugePages, AreMappedByOtherProcesses) {
  const auto arena = Arena::open(config(6 * kMiB));
  ASSERT_TRUE(arena) << arena.error().context;
  const Incarnation life = (*arena)->begin_life();
  const auto writable = (*arena)->share_writable();
  ASSERT_TRUE(writable) << writable.error().context;
  {
    const auto read = MappedArena::map(*(*arena)->share(), (*arena)->node(), life);
    ASSERT_TRUE(read) << read.error().context;
    const auto written =
        WritableArena::map(writable->file, (*arena)->node(), life, writable->writer);
    ASSERT_TRUE(written) << written.error().context;
    const wire::SlotRef slot{SlotId{3}, Generation{1}};
    (*written)->bytes(slot, 1)[0] = std::byte{77};
    EXPECT_EQ((*arena)->memory(slot.slot, 1)[0], std::byte{77});
  }
  std::ifstream maps("/proc/self/maps");
  const std::string all{std::istreambuf_iterator<char>(maps), {}};
  EXPECT_EQ(all.find(directory_), all.rfind(directory_)) << "one mapping is left, the arena's own";
}

TEST_F(HugePages, ThatAreTooFewAreAnErrorThatSaysWhatToDo) {
  ::testing::internal::CaptureStderr();
  const auto arena = Arena::open(config(20 * kMiB));
  const std::string said = ::testing::internal::GetCapturedStderr();
  ASSERT_FALSE(arena);
  EXPECT_EQ(arena.error().code, Errc::out_of_capacity);
  EXPECT_NE(arena.error().context.find("vm.nr_hugepages"), std::string_view::npos);
  EXPECT_NE(said.find("needs 11 huge pages of 2048 KiB and the machine has 8 free"),
            std::string::npos)
      << said;
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

}  // namespace
}  // namespace membrain
