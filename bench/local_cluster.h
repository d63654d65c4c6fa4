// A server, a node and a client in this process, over UCX on the lane that is asked for.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "cache/client/client_core.h"
#include "cache/node/arena.h"
#include "cache/node/node_service.h"
#include "server/shard_service.h"
#include "server/term.h"
#include "transport/loop.h"
#include "transport/ucx/ucx_fabric.h"

namespace membrain {

struct InProcessClusterConfig {
  std::string transports;  ///< as UcxContextConfig's: "tcp,self", or "" for shared memory
  std::size_t capacity_bytes = std::size_t{512} << 20;
  bool verify_checksums = true;
  std::uint32_t window_blocks = 4;
  /// the client's loop is turned by whoever calls, as with ClientConfig::Threads::caller
  bool caller_drives = false;
};

/// Everything that a fetch passes through, each loop on a thread of its own as in production; the
/// client's in the caller's, if that is asked for.
///
/// Threads  One benchmark thread calls; loops run on their own.
class InProcessCluster {
 public:
  explicit InProcessCluster(const InProcessClusterConfig& config);
  ~InProcessCluster();
  InProcessCluster(const InProcessCluster&) = delete;
  InProcessCluster& operator=(const InProcessCluster&) = delete;

  /// Stores `count` blocks of `bytes` each, numbered from `first`; true if all are kept.
  bool store(std::uint64_t first, std::size_t count, std::size_t bytes);
  /// Pins them. The match must go before the cluster.
  Match lookup(std::uint64_t first, std::size_t count);
  /// Fetches all of `match`, one run of memory a block; true if every block came.
  bool fetch(const Match& match, const std::vector<FetchItem>& items);
  /// The same for any list of ranges, of a layout for example.
  bool fetch(const Match& match, FetchList list);
  [[nodiscard]] const std::string& lane() const noexcept { return lane_; }
  /// What `store` put into block `number`.
  [[nodiscard]] static std::byte content(std::uint64_t number, std::size_t offset) noexcept;

 private:
  class Side {
   public:
    /// With a loop of its own, or on `shared`.
    Side(const Clock& clock, const std::shared_ptr<UcxContext>& context, const char* label,
         Loop* shared = nullptr);
    ~Side() { halt(); }
    void run();
    void halt();

   private:
    Loop own_;

   public:
    Loop& loop;
    std::unique_ptr<Fabric> fabric;

   private:
    std::thread thread_;
  };
  /// Runs a coroutine on `side`, whose thread is another or, if `driven`, this one, and waits for
  /// what it makes.
  template <class T, class Start>
  static Result<T> wait_for(Side& side, bool driven, Start start);
  /// The same for the client's.
  template <class T, class Start>
  Result<T> wait_for(Side& side, Start start) {
    return wait_for<T>(side, caller_drives_, std::move(start));
  }

  SteadyClock clock_;
  std::shared_ptr<UcxContext> context_;
  LoneTenure tenure_;
  std::unique_ptr<Side> server_;
  std::unique_ptr<Side> node_control_;
  std::unique_ptr<Side> node_data_;
  std::unique_ptr<Side> client_control_;
  std::unique_ptr<Side> client_data_;
  std::unique_ptr<ShardService> service_;
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<NodeService> node_;
  std::unique_ptr<ClientCore> client_;
  OpenedNamespace space_;
  std::string lane_;
  bool caller_drives_ = false;
};

}  // namespace membrain
