// A server, a node with a shared-memory arena, and a client that maps it, in this process.
#pragma once

#include <cstddef>
#include <memory>

#include "membrain/client.h"
#include "tools/running_node.h"
#include "tools/running_server.h"

namespace membrain {

class MappedHost {
 public:
  static constexpr std::size_t kCapacityBytes = std::size_t{256} << 20;

  /// Hashing by the client on or off.
  explicit MappedHost(bool verify);

  /// Null if the node has not come up in time.
  [[nodiscard]] Client* client() const noexcept { return client_.get(); }
  /// The benchmarks' namespace.
  [[nodiscard]] OpenedNamespace open_space() const;

 private:
  std::unique_ptr<RunningServer> server_;
  std::unique_ptr<RunningNode> node_;
  std::unique_ptr<Client> client_;
};

/// True if a fetch brought all of `items` items and `bytes` bytes, straight from the arena.
[[nodiscard]] bool all_mapped(const Result<TransferReport>& report, std::size_t items,
                              std::uint64_t bytes);

}  // namespace membrain
