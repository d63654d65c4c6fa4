// A server as this process runs it: elections on a thread, each shard on another, admin page.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "server/cluster/coordination.h"
#include "server/cluster/leader_watch.h"
#include "server/cluster/membership.h"
#include "server/cluster/server_shards.h"
#include "server/shard_status.h"
#include "tools/admin_http.h"
#include "tools/etcd_options.h"
#include "tools/loop_thread.h"
#include "tools/outcome.h"
#include "tools/replica_options.h"
#include "tools/shard_threads.h"
#include "transport/fabric.h"
#include "transport/ucx/ucx_context.h"

namespace membrain {

struct ServerOptions {
  std::string listen = "127.0.0.1:9201";
  std::string admin = "127.0.0.1:9202";
  bool no_admin = false;
  std::string secret;
  std::string state_dir;
  bool temporary = false;  ///< keep epoch and eras in memory only
  std::uint64_t expected_blocks = 1'000'000;
  std::uint64_t shards = 1;       ///< into which the first server of a cluster divides the keys
  std::uint64_t shard_ports = 0;  ///< where the second shard listens, and the others behind it
  bool leader_watch = true;       ///< ends the lease of a leader whose process has died
  EtcdOptions etcd;
  CopyOptions copies;
};

/// Ownership  Owns everything of the server. Threads: one, and one for each shard.
class RunningServer {
 public:
  static Outcome<std::unique_ptr<RunningServer>> start(const ServerOptions& options,
                                                       std::shared_ptr<UcxContext> context);
  ~RunningServer();
  RunningServer(const RunningServer&) = delete;
  RunningServer& operator=(const RunningServer&) = delete;

  [[nodiscard]] const std::string& address() const noexcept { return shards_->front(); }
  /// Of the admin page; empty without one.
  [[nodiscard]] std::string admin_address() const { return admin_ ? admin_->address() : ""; }
  /// What each of its shards knows, as of now. Any thread; complains if a loop does not answer in
  /// time.
  [[nodiscard]] Outcome<std::vector<ShardStatus>> status();

 private:
  RunningServer();
  Outcome<> join(const ServerOptions& options);
  Task<> enter(TimePoint deadline);
  Task<> stop();

  LoopThread control_;
  std::unique_ptr<Coordination> coordination_;
  std::unique_ptr<Fabric> watch_fabric_;  ///< null if leaders are watched by their leases alone
  std::unique_ptr<Membership> membership_;
  std::unique_ptr<LeaderWatch> watch_;
  std::unique_ptr<ShardThreads> threads_;
  std::unique_ptr<ServerShards> shards_;
  std::unique_ptr<AdminHttp> admin_;
  bool running_ = false;
};

}  // namespace membrain
