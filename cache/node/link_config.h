// LinkConfig: who a node is, and how it looks for the shards.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/ids.h"
#include "transport/fabric.h"

namespace membrain {

struct LinkConfig {
  std::string server;  ///< first contact: one address, or several between commas
  std::string secret;  ///< the cluster's
  std::string host;    ///< id of this host: equal text = the same host
  Address address;     ///< of the data loop, as clients reach it
  std::string door;    ///< as wire::NodeEntry's
  std::string zone;    ///< likewise
  NodeId node;
  Incarnation incarnation;
  std::uint64_t capacity_bytes = 0;
  Tier tier = Tier::host;

  Duration connect_timeout = std::chrono::seconds(2);
  Duration answer_timeout = std::chrono::seconds(5);  ///< of one call, which is then made again
  Duration first_backoff = std::chrono::milliseconds(50);
  Duration longest_backoff = std::chrono::seconds(2);
  /// where another server takes over, which is a matter of moments
  Duration longest_of_several = std::chrono::milliseconds(100);

  /// How long to wait after so many failures in a row: doubles with each, up to `longest`, and
  /// differs by up to a quarter from node to node.
  [[nodiscard]] Duration backoff(std::uint32_t failures, Duration longest) const noexcept;
};

}  // namespace membrain
