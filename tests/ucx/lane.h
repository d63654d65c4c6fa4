// The lanes over which the tests of the fabric run: TCP and shared memory everywhere, RDMA where
// the machine has a device.
#pragma once

#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "transport/ucx/ucx_context.h"

namespace membrain::ucx_test {

/// A way for the bytes of two parties.
struct Lane {
  std::string name;        ///< in the test's name
  std::string kind;        ///< what Fabric::lane says of it
  std::string transports;  ///< UCX's list; empty: whatever UCX finds
  std::string devices;     ///< the first party's, as UCX lists them; empty: the loopback interface
  std::string peer_devices;  ///< the other's
};

inline void PrintTo(const Lane& lane, std::ostream* out) {
  *out << lane.name;
}

/// Shared memory is what UCX finds between two workers of one host.
inline Lane tcp_lane() {
  return {"tcp", "tcp", "tcp,self", "", ""};
}
inline Lane shm_lane() {
  return {"shm", "shm", "", "", ""};
}

/// Reliable connections between RDMA devices; none where the machine has no device with an active
/// port. MEMBRAIN_TEST_RDMA names the devices of both parties, "rxe0:1 rxe1:1"; without it both use
/// the first one.
std::vector<Lane> rdma_lanes();

/// All of the above.
std::vector<Lane> every_lane();

/// The one of that name; also for a process that serves a test on another host.
std::optional<Lane> lane_named(std::string_view name);

std::shared_ptr<UcxContext> make_context(const Lane& lane, const std::string& devices);

}  // namespace membrain::ucx_test
