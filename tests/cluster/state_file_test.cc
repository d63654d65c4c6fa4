#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "server/cluster/state_file.h"

namespace membrain {
namespace {

class StateFileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "membrain-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    state_ = folder_ / "state";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static CoordinationView some() {
    return {9, {{"eras/1", "2", 3, 8, {}}, {"id", "a name", 1, 1, {}}}};
  }
  [[nodiscard]] auto open() const { return StateFile::open((state_).string()); }

  std::filesystem::path folder_;
  std::filesystem::path state_;  ///< the state directory
};

TEST_F(StateFileTest, WhatWasSavedIsThereAfterARestart) {
  {
    const auto file = open();
    ASSERT_TRUE(file) << file.error().context;
    EXPECT_EQ((*file)->take_loaded().revision, 0U);
    ASSERT_TRUE((*file)->save(some()));
  }
  const auto file = open();
  const CoordinationView loaded = (*file)->take_loaded();
  EXPECT_EQ(loaded.revision, 9U);
  ASSERT_EQ(loaded.entries.size(), 2U);
  const CoordinationEntry* const era = loaded.find("eras/1");
  ASSERT_NE(era, nullptr);
  EXPECT_EQ(era->value, "2");
  EXPECT_EQ(era->created, 3U);
  EXPECT_EQ(era->modified, 8U);
}

TEST_F(StateFileTest, WhatCouldNotBeLoadedAgainIsNotSaved) {
  {
    const auto file = open();
    ASSERT_TRUE((*file)->save(some()));
    CoordinationView long_one = some();
    long_one.entries[0].value.assign(StateFile::kMaxTextBytes + 1, 'x');
    const Result<> saved = (*file)->save(long_one);
    ASSERT_FALSE(saved);
    EXPECT_EQ(saved.error().code, Errc::invalid_argument);
    CoordinationView large = some();
    large.entries.assign(20'000, {"key", std::string(StateFile::kMaxTextBytes, 'x'), 1, 1, {}});
    EXPECT_EQ((*file)->save(large).error().code, Errc::out_of_capacity);
  }
  const auto file = open();
  ASSERT_TRUE(file) << file.error().context;
  EXPECT_EQ((*file)->take_loaded().entries.size(), 2U);
}

TEST_F(StateFileTest, TheDirectoryIsItsOwnersAlone) {
  const auto store = open();
  ASSERT_TRUE((*store)->save(some()));
  struct stat status {};
  ASSERT_EQ(::stat(state_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777u, 0700u);
  ASSERT_EQ(::stat((state_ / "state").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777u, 0600u);
}

TEST_F(StateFileTest, ASecondServerOnTheSameDirectoryIsRefused) {
  auto first = open();
  ASSERT_TRUE(first);
  const auto second = open();
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::unavailable);
  first->reset();
  EXPECT_TRUE(open());
}

TEST_F(StateFileTest, ADamagedFileIsReportedAndLeftAsItIs) {
  ASSERT_TRUE((*open())->save(some()));
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

TEST_F(StateFileTest, AHalfWrittenSuccessorDoesNotMatter) {
  ASSERT_TRUE((*open())->save(some()));
  std::ofstream(state_ / "state.new") << "torn";
  const auto store = open();
  ASSERT_TRUE(store);
  EXPECT_EQ((*store)->take_loaded().revision, 9U);
}

TEST_F(StateFileTest, AFileInTheDirectorysPlaceIsAnError) {
  std::ofstream(state_) << "not a directory";
  const auto store = open();
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().code, Errc::unavailable);
}

TEST_F(StateFileTest, AFullDiskIsAnErrorAndChangesNothing) {
  // /dev/full answers every write with ENOSPC.
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "this machine has no /dev/full";
  const auto store = open();
  ASSERT_TRUE((*store)->save(some()));
  ASSERT_EQ(::symlink("/dev/full", (state_ / "state.new").c_str()), 0);
  CoordinationView next = some();
  next.revision = 10;
  const Result<> kept = (*store)->save(next);
  ASSERT_FALSE(kept);
  EXPECT_EQ(kept.error().code, Errc::out_of_capacity);
  EXPECT_TRUE((*store)->save(next));
}

}  // namespace
}  // namespace membrain
