#include "tests/ucx/lane.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

namespace membrain::ucx_test {

namespace {

namespace fs = std::filesystem;

/// What UCX, left alone, finds between two hosts with RDMA.
Lane found_lane() {
  return {"rdma_found", "rdma", "", "all", "all"};
}

/// Containers often show devices that they may not open.
bool may_open_a_device() {
  std::error_code none;
  for (const auto& node : fs::directory_iterator("/dev/infiniband", none)) {
    const bool verbs = node.path().filename().string().starts_with("uverbs");
    if (verbs && ::access(node.path().c_str(), R_OK | W_OK) == 0) return true;
  }
  return false;
}

/// The first device whose first port is active; empty if there is none.
std::string active_device() {
  std::error_code none;
  for (const auto& device : fs::directory_iterator("/sys/class/infiniband", none)) {
    std::ifstream state(device.path() / "ports/1/state");
    std::string line;
    if (std::getline(state, line) && line.ends_with("ACTIVE")) {
      return device.path().filename().string() + ":1";
    }
  }
  return {};
}

}  // namespace

std::vector<Lane> rdma_lanes() {
  std::string device;
  std::string peer_device;
  if (const char* named = std::getenv("MEMBRAIN_TEST_RDMA"); named != nullptr) {
    std::istringstream words(named);
    words >> device >> peer_device;
  } else if (may_open_a_device()) {
    device = active_device();
  }
  if (device.empty()) return {};
  if (peer_device.empty()) peer_device = device;
  // Unreliable datagrams are what UCX makes first contact with, over our worker addresses.
  std::vector<Lane> lanes = {{"rdma", "rdma", "rc,ud:aux,self", device, peer_device}};
  if (std::getenv("MEMBRAIN_TEST_AGENT") != nullptr) lanes.push_back(found_lane());
  return lanes;
}

std::optional<Lane> lane_named(std::string_view name) {
  std::vector<Lane> lanes = every_lane();
  lanes.push_back(found_lane());
  const auto found = std::find_if(lanes.begin(), lanes.end(),
                                  [name](const Lane& lane) { return lane.name == name; });
  if (found == lanes.end()) return std::nullopt;
  return *found;
}

std::vector<Lane> every_lane() {
  std::vector<Lane> lanes = {tcp_lane(), shm_lane()};
  for (Lane& lane : rdma_lanes()) lanes.push_back(std::move(lane));
  return lanes;
}

std::shared_ptr<UcxContext> make_context(const Lane& lane, const std::string& devices) {
  UcxContextConfig config;
  config.transports = lane.transports;
  config.devices = devices;
  return UcxContext::create(config).value();
}

}  // namespace membrain::ucx_test
