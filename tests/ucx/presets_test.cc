#include "transport/ucx/presets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

namespace membrain {
namespace {

namespace fs = std::filesystem;

/// A tree like /sys with RDMA devices in it.
class Presets : public testing::Test {
 protected:
  Presets() { fs::create_directories(sysfs_); }
  ~Presets() override { fs::remove_all(sysfs_); }
  void add_device(const std::string& name) {
    fs::create_directories(sysfs_ / "class/infiniband" / name / "ports/1");
  }
  void add_soft_device(const std::string& name) {
    add_device(name);
    std::ofstream(sysfs_ / "class/infiniband" / name / "parent") << "eth0\n";
  }
  std::map<std::string, std::string> presets() const {
    std::map<std::string, std::string> all;
    for (const UcxPreset& preset : presets_for(sysfs_)) all[preset.name] = preset.value;
    return all;
  }

  fs::path sysfs_ =
      fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(Presets, KeepEndpointsFromWaitingForAConnection) {
  EXPECT_EQ(presets().at("UCX_TCP_CONN_NB"), "y");
}

TEST_F(Presets, TakeOneEventOfASocketAtATime) {
  EXPECT_EQ(presets().at("UCX_TCP_MAX_POLL"), "1");
}

TEST_F(Presets, WithoutAnRdmaDeviceLeaveRdmaAlone) {
  const auto without = presets();
  EXPECT_EQ(without.at("UCX_TCP_TX_SEG_SIZE"), "512k");
  EXPECT_EQ(without.at("UCX_KEEPALIVE_INTERVAL"), "1s");
  EXPECT_FALSE(without.contains("UCX_RC_TIMEOUT"));
  EXPECT_FALSE(without.contains("UCX_UD_VERBS_ETH_DGID_CHECK"));
}

TEST_F(Presets, WithAnRdmaDeviceGiveUpADeadPeerWithinAboutASecond) {
  add_device("mlx5_0");
  EXPECT_EQ(presets().at("UCX_RC_TIMEOUT"), "100ms");
  EXPECT_EQ(presets().at("UCX_RC_RETRY_COUNT"), "6");
}

TEST_F(Presets, WithAnRdmaDeviceHaveNoKeepAliveThatHandshakesWouldTake) {
  add_device("mlx5_0");
  EXPECT_EQ(presets().at("UCX_KEEPALIVE_INTERVAL"), "inf");
}

TEST_F(Presets, WithHardwareKeepUcxsCheckOfDatagrams) {
  add_device("mlx5_0");
  EXPECT_FALSE(presets().contains("UCX_UD_VERBS_ETH_DGID_CHECK"));
}

TEST_F(Presets, WithSoftRoceTurnThatCheckOff) {
  add_device("mlx5_0");
  add_soft_device("rxe0");
  EXPECT_EQ(presets().at("UCX_UD_VERBS_ETH_DGID_CHECK"), "n");
}

}  // namespace
}  // namespace membrain
