// Coordination by etcd. Always compiles; without gRPC at build time there is none.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "membrain/result.h"
#include "server/cluster/coordination.h"
#include "transport/loop.h"

namespace membrain {

struct EtcdConfig {
  /// "host:port" or "http://host:port"; "https://host:port" with TLS. Of any members: one that
  /// fails is left for the next.
  std::vector<std::string> endpoints;
  // PEM files. They are looked at again every few seconds: whatever connects later takes what is
  // there then.
  std::string ca_file;    ///< who signs etcd's certificates; empty: the system's
  std::string cert_file;  ///< our own certificate; empty: none
  std::string key_file;   ///< and its key
};

/// Connects when it is first used. `invalid_argument` for endpoints that make no sense and for a
/// certificate without its key, `unavailable` in a build without gRPC.
///
/// Threads  The loop's. gRPC has threads of its own; what they bring is handed to the loop.
Result<std::unique_ptr<Coordination>> make_etcd_coordination(Loop& loop, EtcdConfig config);

}  // namespace membrain
