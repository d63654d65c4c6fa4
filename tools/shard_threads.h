// ShardThreads: a loop with a thread and a fabric of its own for each shard of a server.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "server/cluster/server_shards.h"
#include "tools/loop_thread.h"
#include "transport/fabric.h"
#include "transport/ucx/ucx_context.h"

namespace membrain {

/// Where a server's shards listen, and are reached.
struct ShardAddresses {
  std::string listen = "127.0.0.1:9201";  ///< of the first
  std::string advertise;        ///< of the first, as others reach it; empty: as it listens
  std::uint16_t next_port = 0;  ///< of the second, the third has the port behind it; 0: any
};

/// Ownership  `stop` when the shards have stopped, before they are destroyed; destroyed after them.
/// Threads    The membership's loop, or before that runs and after it has stopped.
class ShardThreads final : public ShardHost {
 public:
  ShardThreads(std::shared_ptr<UcxContext> context, std::string secret, ShardAddresses addresses);

  Result<Place> make_place(ShardId shard) override;
  Address open_place(ShardId shard, const Address& address) override;
  void stop();

 private:
  struct Room {
    explicit Room(const std::string& name) : thread(name) {}
    LoopThread thread;
    std::unique_ptr<Fabric> fabric;
  };

  const std::shared_ptr<UcxContext> context_;
  const std::string secret_;
  const ShardAddresses addresses_;
  std::map<ShardId, std::unique_ptr<Room>> rooms_;
};

}  // namespace membrain
