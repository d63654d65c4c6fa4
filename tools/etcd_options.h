// How a server takes part in a cluster: options, etcd, and which cluster it was.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "server/cluster/coordination.h"
#include "tools/command.h"
#include "tools/outcome.h"
#include "transport/loop.h"

namespace membrain {

struct EtcdOptions {
  std::vector<std::string> endpoints;  ///< none: this server is alone
  std::string cluster = "membrain";
  std::string name;
  std::string advertise;
  std::string ca_file;
  std::string cert_file;
  std::string key_file;
  std::chrono::milliseconds lease{3000};

  /// Adds a server's to `command`.
  void bind(Command& command);
  /// And those of somebody who only talks to etcd.
  void bind_client(Command& command);
  /// Complains about what makes no sense, wherever etcd is.
  [[nodiscard]] Outcome<> check() const;
  [[nodiscard]] bool alone() const noexcept { return endpoints.empty(); }
  /// Complains if a server that listens there would tell others an address of no host.
  [[nodiscard]] Outcome<> check_listen(const std::string& listen) const;
};

/// Complains about endpoints that make no sense, and files that cannot be read.
Outcome<std::unique_ptr<Coordination>> connect_etcd(const EtcdOptions& options, Loop& loop);

/// Remembers in `directory` which cluster this server belongs to, and complains if it was another:
/// an etcd that was wiped would give epochs out again that nodes have seen. So would one that was
/// restored from a snapshot, which has the same id: that shows only while a server runs.
Outcome<> same_cluster(const std::string& directory, const std::string& id);

}  // namespace membrain
