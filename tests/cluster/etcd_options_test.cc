// Which cluster a server remembers, and where it says that it is.
#include "tools/etcd_options.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace membrain {
namespace {

class ClusterFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "membrain-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  [[nodiscard]] std::string state() const { return (folder_ / "state").string(); }
  [[nodiscard]] std::string file() const { return (folder_ / "state" / "cluster").string(); }
  /// What is said of it, by a server of the cluster "one".
  [[nodiscard]] std::string complaint() const {
    const Outcome<> same = same_cluster(state(), "one");
    return same ? "" : same.error().text;
  }

  std::filesystem::path folder_;
};

TEST_F(ClusterFile, IsWrittenOnceAndSaysWhichClusterThatWas) {
  EXPECT_EQ(complaint(), "");
  EXPECT_EQ(complaint(), "");
  EXPECT_FALSE(std::filesystem::exists(file() + ".new"));
  const Outcome<> other = same_cluster(state(), "two");
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().text.find(file()), std::string::npos) << other.error().text;
  EXPECT_EQ(complaint(), "") << "it was left as it is";
}

TEST_F(ClusterFile, OneThatWasLostHalfWayIsRefusedByName) {
  ASSERT_EQ(complaint(), "");
  std::filesystem::resize_file(file(), 0);
  EXPECT_NE(complaint().find(file()), std::string::npos) << complaint();
  EXPECT_EQ(std::filesystem::file_size(file()), 0U) << "it was left as it is";
}

TEST_F(ClusterFile, OneThatIsNoFileIsRefusedByName) {
  std::filesystem::create_directories(file());
  EXPECT_NE(complaint().find(file()), std::string::npos) << complaint();
}

TEST_F(ClusterFile, WhereNothingCanBeWrittenIsNamed) {
  std::ofstream(state()) << "not a directory";
  EXPECT_NE(complaint().find(file()), std::string::npos) << complaint();
}

TEST(CheckListen, AnAddressOfNoHostIsRefusedWhereOthersAreToldOfIt) {
  EtcdOptions options;
  EXPECT_TRUE(options.check_listen("0.0.0.0:9201")) << "it is alone";
  options.endpoints = {"http://127.0.0.1:2379"};
  for (const char* const wrong : {"0.0.0.0:9201", "0:9201", "[::]:9201", "[0:0::0]:9201"}) {
    const Outcome<> fine = options.check_listen(wrong);
    ASSERT_FALSE(fine) << wrong;
    EXPECT_NE(fine.error().text.find("--advertise"), std::string::npos);
  }
  for (const char* const right : {"10.0.0.1:9201", "[fd00::7]:9201", "host:9201", "127.0.0.1:0"}) {
    EXPECT_TRUE(options.check_listen(right)) << right;
  }
  options.advertise = "host:9201";
  EXPECT_TRUE(options.check_listen("0.0.0.0:9201"));
  options.advertise = "0.0.0.0:9201";
  EXPECT_FALSE(options.check_listen("10.0.0.1:9201"));
}

}  // namespace
}  // namespace membrain
