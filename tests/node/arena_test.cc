#include "cache/node/arena.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

namespace membrain {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

class ArenaTest : public ::testing::Test {
 protected:
  ArenaTest() {
    std::string path = "/dev/shm/membrain-test-XXXXXX";
    directory_ = ::mkdtemp(path.data());
  }
  ~ArenaTest() override { std::filesystem::remove_all(directory_); }

  [[nodiscard]] ArenaConfig config(std::uint64_t capacity = 4 * kMiB) const {
    return {"a", capacity, false, directory_};
  }
  [[nodiscard]] std::string path() const { return directory_ + "/membrain-a"; }

  std::string directory_;
};

TEST_F(ArenaTest, IsAPrivateFileOfTheCapacityWithItsSealsAndNothingWasted) {
  auto arena = Arena::open(config());
  ASSERT_TRUE(arena) << arena.error().context;
  EXPECT_EQ((*arena)->capacity_bytes(), 4 * kMiB);
  EXPECT_EQ((*arena)->seals().size(), 4 * kMiB / kPageBytes);
  EXPECT_TRUE((*arena)->node());
  EXPECT_FALSE((*arena)->adopted());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>((*arena)->seals().data()) % 128, 0u);
  struct stat status {};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_LE(status.st_blocks * 512, static_cast<blkcnt_t>(4 * kMiB * 11 / 10));
  EXPECT_GE(status.st_blocks * 512, static_cast<blkcnt_t>(4 * kMiB)) << "not reserved";
}

TEST_F(ArenaTest, KeepsItsNodeAndCountsItsLives) {
  NodeId node;
  {
    auto arena = Arena::open(config());
    ASSERT_TRUE(arena);
    node = (*arena)->node();
    EXPECT_EQ((*arena)->begin_life().value, 1u);
    EXPECT_EQ((*arena)->next_generation().value, 1u);
  }
  auto arena = Arena::open(config());
  ASSERT_TRUE(arena) << arena.error().context;
  EXPECT_TRUE((*arena)->adopted());
  EXPECT_EQ((*arena)->node(), node);
  EXPECT_EQ((*arena)->begin_life().value, 2u);
  EXPECT_EQ((*arena)->next_generation().value, 2u);
}

TEST_F(ArenaTest, RefusesASecondNodeOfTheSameNameUntilTheFirstHasGone) {
  auto first = Arena::open(config());
  ASSERT_TRUE(first);
  const auto second = Arena::open(config());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::unavailable);
  ArenaConfig fresh = config();
  fresh.fresh = true;
  EXPECT_EQ(Arena::open(fresh).error().code, Errc::unavailable) << "not even with --fresh";
  first->reset();
  EXPECT_TRUE(Arena::open(config()));
}

TEST_F(ArenaTest, NamesFreshWhenTheCapacityDiffersOrTheHeaderIsDamaged) {
  ASSERT_TRUE(Arena::open(config()));
  const auto larger = Arena::open(config(8 * kMiB));
  ASSERT_FALSE(larger);
  EXPECT_EQ(larger.error().code, Errc::invalid_argument);
  EXPECT_NE(larger.error().context.find("--fresh"), std::string_view::npos);
  {
    std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(12);
    file.write("scribble", 8);
  }
  const auto damaged = Arena::open(config());
  ASSERT_FALSE(damaged);
  EXPECT_EQ(damaged.error().code, Errc::corrupt);
  EXPECT_NE(damaged.error().context.find("--fresh"), std::string_view::npos);
  ArenaConfig fresh = config();
  fresh.fresh = true;
  const auto renewed = Arena::open(fresh);
  ASSERT_TRUE(renewed) << renewed.error().context;
  EXPECT_FALSE((*renewed)->adopted());
}

TEST_F(ArenaTest, WithCountersThatNoLifeReachesIsDamaged) {
  for (const auto& [at, size] : {std::pair{offsetof(ArenaHeader, generations), 8},
                                 std::pair{offsetof(ArenaHeader, incarnation), 4}}) {
    ArenaConfig fresh = config();
    fresh.fresh = true;
    ASSERT_TRUE(Arena::open(fresh));
    std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(at));
    file.write("\xff\xff\xff\xff\xff\xff\xff\xff", size);
    file.close();
    EXPECT_EQ(Arena::open(config()).error().code, Errc::corrupt) << at;
  }
}

TEST_F(ArenaTest, StartsAnewWhenItsMakerDiedBeforeItHadFinished) {
  std::ofstream(path()) << std::string(100, '\0');
  const auto arena = Arena::open(config());
  ASSERT_TRUE(arena) << arena.error().context;
  EXPECT_FALSE((*arena)->adopted());
}

TEST_F(ArenaTest, StartsAnewWhenItsMakerDiedAmidItsHeader) {
  const auto without_its_magic = [this] {
    std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(offsetof(ArenaHeader, magic));
    file.write("\0\0\0\0\0\0\0\0", 8);
  };
  ASSERT_TRUE(Arena::open(config()));
  without_its_magic();
  {
    const auto arena = Arena::open(config());
    ASSERT_TRUE(arena) << arena.error().context;
    EXPECT_FALSE((*arena)->adopted());
    (*arena)->begin_life();
  }
  without_its_magic();
  EXPECT_EQ(Arena::open(config()).error().code, Errc::corrupt) << "a node has lived in it";
}

TEST_F(ArenaTest, RefusesNoCapacityABadNameAndALinkInItsPlace) {
  EXPECT_EQ(Arena::open(config(0)).error().code, Errc::invalid_argument);
  EXPECT_EQ(Arena::anonymous(0).error().code, Errc::invalid_argument);
  ArenaConfig named = config();
  named.name = "../escape";
  EXPECT_EQ(Arena::open(named).error().code, Errc::invalid_argument);
  std::ofstream(directory_ + "/victim") << "precious";
  ASSERT_EQ(::symlink((directory_ + "/victim").c_str(), path().c_str()), 0);
  EXPECT_EQ(Arena::open(config()).error().code, Errc::denied);
}

TEST_F(ArenaTest, SaysSoWhenSharedMemoryIsFullAndLeavesNothingBehind) {
  const std::string small = directory_ + "/small";
  std::filesystem::create_directory(small);
  if (::mount("none", small.c_str(), "tmpfs", 0, "size=2m") != 0) {
    GTEST_SKIP() << "missing: the right to mount a tmpfs";
  }
  const auto arena = Arena::open({"a", 4 * kMiB, false, small});
  EXPECT_EQ(arena ? Errc::cancelled : arena.error().code, Errc::out_of_capacity);
  EXPECT_TRUE(std::filesystem::is_empty(small));
  const auto fitting = Arena::open({"a", kMiB, false, small});
  EXPECT_TRUE(fitting);
  ::umount2(small.c_str(), MNT_DETACH);
}

}  // namespace
}  // namespace membrain
