#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "server/file_state_store.h"

namespace membrain {
namespace {

class FileStateStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "membrain-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    state_ = folder_ / "state";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] auto open() const { return FileStateStore::open((state_).string()); }

  std::filesystem::path folder_;
  std::filesystem::path state_;  ///< the state directory
};

TEST_F(FileStateStoreTest, EveryStartBeginsALaterEpoch) {
  for (std::uint64_t epoch = 1; epoch <= 3; ++epoch) {
    const auto store = open();
    ASSERT_TRUE(store) << store.error().context;
    EXPECT_EQ((*store)->begin_epoch()->value, epoch);
  }
}

TEST_F(FileStateStoreTest, ErasSurviveARestart) {
  {
    const auto store = open();
    ASSERT_TRUE((*store)->begin_epoch());
    EXPECT_EQ((*store)->era_of(NamespaceId{7}), Era{1});
    ASSERT_TRUE((*store)->set_era(NamespaceId{7}, Era{5}));
  }
  const auto store = open();
  EXPECT_EQ((*store)->era_of(NamespaceId{7}), Era{5});
  EXPECT_EQ((*store)->era_of(NamespaceId{8}), Era{1});
  EXPECT_EQ((*store)->epoch(), Epoch{1});
}

TEST_F(FileStateStoreTest, TheDirectoryIsItsOwnersAlone) {
  const auto store = open();
  ASSERT_TRUE((*store)->begin_epoch());
  struct stat status {};
  ASSERT_EQ(::stat(state_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777u, 0700u);
  ASSERT_EQ(::stat((state_ / "state").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777u, 0600u);
}

TEST_F(FileStateStoreTest, ASecondServerOnTheSameDirectoryIsRefused) {
  auto first = open();
  ASSERT_TRUE(first);
  const auto second = open();
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::unavailable);
  first->reset();
  EXPECT_TRUE(open());
}

TEST_F(FileStateStoreTest, ADamagedFileIsReportedAndLeftAsItIs) {
  ASSERT_TRUE((*open())->begin_epoch());
  const auto file = state_ / "state";
  const auto size = std::filesystem::file_size(file);
  for (std::uintmax_t at = 0; at < size; ++at) {
    std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekg(static_cast<std::streamoff>(at));
    const int byte = bytes.get();
    bytes.seekp(static_cast<std::streamoff>(at));
    bytes.put(static_cast<char>(byte ^ 0x10));
    bytes.close();
    const auto store = open();
    ASSERT_FALSE(store) << "byte " << at;
    EXPECT_EQ(store.error().code, Errc::corrupt);
    bytes.open(file, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(static_cast<std::streamoff>(at));
    bytes.put(static_cast<char>(byte));
  }
  std::filesystem::resize_file(file, size / 2);
  EXPECT_FALSE(open());
  std::filesystem::resize_file(file, 0);
  EXPECT_FALSE(open());
}

TEST_F(FileStateStoreTest, AHalfWrittenSuccessorDoesNotMatter) {
  ASSERT_TRUE((*open())->begin_epoch());
  std::ofstream(state_ / "state.new") << "torn";
  const auto store = open();
  ASSERT_TRUE(store);
  EXPECT_EQ((*store)->begin_epoch()->value, 2u);
}

TEST_F(FileStateStoreTest, AFileInTheDirectorysPlaceIsAnError) {
  std::ofstream(state_) << "not a directory";
  const auto store = open();
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().code, Errc::unavailable);
}

TEST_F(FileStateStoreTest, AFullDiskIsAnErrorAndChangesNothing) {
  // /dev/full answers every write with ENOSPC.
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "this machine has no /dev/full";
  const auto store = open();
  ASSERT_TRUE((*store)->begin_epoch());
  ASSERT_EQ(::symlink("/dev/full", (state_ / "state.new").c_str()), 0);
  const Result<> kept = (*store)->set_era(NamespaceId{7}, Era{2});
  ASSERT_FALSE(kept);
  EXPECT_EQ(kept.error().code, Errc::out_of_capacity);
  EXPECT_EQ((*store)->era_of(NamespaceId{7}), Era{1});
  EXPECT_TRUE((*store)->set_era(NamespaceId{7}, Era{2}));
}

}  // namespace
}  // namespace membrain
