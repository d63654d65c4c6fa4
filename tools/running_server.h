// A server as this process runs it: epoch, fabric, shard service on a thread, admin page.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "server/shard_service.h"
#include "server/shard_status.h"
#include "server/state_store.h"
#include "tools/admin_http.h"
#include "tools/loop_thread.h"
#include "tools/outcome.h"
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
};

/// Ownership  Owns everything of the server. Threads: one.
class RunningServer {
 public:
  static Outcome<std::unique_ptr<RunningServer>> start(const ServerOptions& options,
                                                       std::shared_ptr<UcxContext> context);
  ~RunningServer();
  RunningServer(const RunningServer&) = delete;
  RunningServer& operator=(const RunningServer&) = delete;

  [[nodiscard]] const std::string& address() const noexcept { return service_->address(); }
  /// Of the admin page; empty without one.
  [[nodiscard]] std::string admin_address() const { return admin_ ? admin_->address() : ""; }
  /// What it knows, as of now. Any thread; complains if the loop does not answer in time.
  [[nodiscard]] Outcome<ShardStatus> status();

 private:
  RunningServer();

  std::unique_ptr<StateStore> state_;
  LoopThread control_;
  std::unique_ptr<Fabric> fabric_;
  std::unique_ptr<ShardService> service_;
  std::unique_ptr<AdminHttp> admin_;
  bool running_ = false;
};

}  // namespace membrain
