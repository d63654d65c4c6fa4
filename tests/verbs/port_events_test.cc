// Ports that go down and come back. In the virtual machine of the rdma tests, where this program is
// root and the interface below the device is its own; elsewhere there is nothing to take down.
#include "transport/verbs/port_events.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

#include "base/clock.h"

namespace membrain::verbs_test {
namespace {

using verbs::PortEvent;
using verbs::PortEvents;

class Ports : public testing::Test {
 protected:
  /// Turns the loop until `wanted` has been told.
  bool told(const std::string& device, bool up) {
    const TimePoint until = clock_.now() + std::chrono::seconds(30);
    while (clock_.now() < until) {
      for (const PortEvent& event : events_) {
        if (event.device == device && event.port == 1 && event.up == up) return true;
      }
      if (!loop_.turn()) loop_.wait(std::chrono::milliseconds(20));
    }
    return false;
  }

  SteadyClock clock_;
  Loop loop_{clock_};
  std::vector<PortEvent> events_;
};

TEST_F(Ports, OfThisMachineCanBeWatchedOrThereAreNone) {
  const auto watched = PortEvents::watch(loop_, [](const PortEvent&) {});
  EXPECT_TRUE(!watched || watched->device_count() > 0);
}

TEST_F(Ports, ThatGoDownAndComeBackAreTold) {
  if (std::getenv("MEMBRAIN_TEST_WIRE") == nullptr) {
    GTEST_SKIP() << "no interface of a Soft-RoCE device that may be taken down";
  }
  const auto watched =
      PortEvents::watch(loop_, [this](const PortEvent& event) { events_.push_back(event); });
  ASSERT_TRUE(watched);
  EXPECT_GE(watched->device_count(), 2U);
  ASSERT_EQ(std::system("ip link set wire0 down"), 0);
  EXPECT_TRUE(told("rxe0", false));
  EXPECT_TRUE(told("rxe1", false)) << "the other end of the wire";
  events_.clear();
  ASSERT_EQ(std::system("ip link set wire0 up"), 0);
  EXPECT_TRUE(told("rxe0", true));
  EXPECT_TRUE(told("rxe1", true));
}

}  // namespace
}  // namespace membrain::verbs_test
