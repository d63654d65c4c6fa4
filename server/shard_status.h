// A shard as people see it: plain values, free to cross threads.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "protocol/messages.h"
#include "protocol/shard_map.h"

namespace membrain {

struct NamespaceStatus {
  std::uint64_t id = 0;
  std::uint32_t era = 0;
  std::string label;
  std::string tenant;
};

struct SessionStatus {
  std::string label;
  std::string tenant;
  bool connected = false;
  std::size_t lookups = 0;  ///< that pin
};

struct ShardStatus {
  static constexpr std::size_t kMaxNamed = 256;  ///< namespaces, sessions

  ShardId shard{};
  KeyRange range;           ///< while it leads
  std::uint64_t epoch = 0;  ///< 0: it does not lead
  std::string address;      ///< of first contact
  std::string leader;       ///< of who leads, as far as it is known
  std::chrono::milliseconds uptime{0};
  bool grace = false;  ///< after a restart: nothing is freed yet
  std::vector<wire::Counter> counters;
  std::vector<wire::NodeEntry> nodes;
  std::vector<NamespaceStatus> namespaces;  ///< at most kMaxNamed
  std::vector<SessionStatus> sessions;      ///< at most kMaxNamed
};

}  // namespace membrain
