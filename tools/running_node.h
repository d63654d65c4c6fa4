// A node as this process runs it: arena, fabrics, and a thread for each of its two loops.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "cache/node/arena.h"
#include "cache/node/node_service.h"
#include "tools/loop_thread.h"
#include "tools/outcome.h"
#include "tools/signals.h"
#include "transport/fabric.h"
#include "transport/ucx/ucx_context.h"
#include "transport/windows.h"

namespace membrain {

struct NodeOptions {
  std::string server = "127.0.0.1:9201";
  std::string secret;
  std::string listen = "127.0.0.1:0";
  std::string name = "node";
  std::string zone;  ///< equal text = the same rack or availability zone
  std::string directory = "/dev/shm";
  std::uint64_t capacity_bytes = 0;
  bool fresh = false;
  bool one_sided_reads = false;  ///< open the arena to the RDMA hardware of trusted clients
  bool temporary = false;        ///< remove the arena's file at once: nothing outlives the process
};

/// Ownership  Owns everything of the node. Threads: one thread calls, but `status`.
class RunningNode {
 public:
  /// Opens the arena, listens, and starts to look for the server.
  static Outcome<std::unique_ptr<RunningNode>> start(const NodeOptions& options,
                                                     std::shared_ptr<UcxContext> context);
  /// Leaves the server, lets transfers end.
  ~RunningNode();
  RunningNode(const RunningNode&) = delete;
  RunningNode& operator=(const RunningNode&) = delete;

  /// True once the server has taken the node in; false if `deadline` or a signal came first.
  [[nodiscard]] bool wait_connected(TimePoint deadline, Signals& signals) const;
  /// Has what this node alone has copied to others; it goes on to serve. `status` shows how far.
  void leave() { control_.run(service_->leave()); }
  [[nodiscard]] NodeStatus status() const { return service_->status(); }
  [[nodiscard]] const std::string& address() const { return service_->address(); }

 private:
  RunningNode();
  void open_windows();

  std::unique_ptr<Arena> arena_;
  LoopThread control_;
  LoopThread data_;
  std::unique_ptr<Fabric> control_fabric_;
  std::unique_ptr<Fabric> data_fabric_;
  std::unique_ptr<Windows> windows_;  ///< on the data loop; null: not wanted, or no hardware
  std::unique_ptr<NodeService> service_;
  bool running_ = false;
};

}  // namespace membrain
