// A small cluster on this machine, for as long as a command runs: a server and some nodes, each a
// process of its own, on ports that nobody else has, leaving nothing behind.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tools/child.h"
#include "tools/outcome.h"
#include "tools/signals.h"

namespace membrain {

struct ClusterConfig {
  std::uint32_t nodes = 1;
  std::uint64_t capacity_bytes = 0;  ///< of all nodes together
  std::uint64_t expected_blocks = 0;
  std::string log_level = "warn";
  std::string program;  ///< the membrain binary; empty: this same program
};

/// Made up, for one cluster alone.
[[nodiscard]] std::string random_secret();

/// Bytes that nodes need so that `blocks` blocks of `block_bytes` stay without eviction: slots are
/// a little larger than blocks, and a node asks for victims when less than a tenth is free.
[[nodiscard]] std::uint64_t capacity_for(std::uint64_t blocks, std::uint64_t block_bytes);

/// Complains if shared memory cannot hold `capacity_bytes` of arenas now.
[[nodiscard]] Outcome<> check_memory_for(std::uint64_t capacity_bytes);

/// Ownership  Destroying it ends its processes and waits for them. Threads: one.
class LocalCluster {
 public:
  /// Returns when the server knows all nodes.
  static Outcome<std::unique_ptr<LocalCluster>> start(const ClusterConfig& config,
                                                      Signals& signals);
  ~LocalCluster();
  LocalCluster(const LocalCluster&) = delete;
  LocalCluster& operator=(const LocalCluster&) = delete;

  [[nodiscard]] const std::string& server() const noexcept { return server_; }
  /// Made up for this cluster alone.
  [[nodiscard]] const std::string& secret() const noexcept { return secret_; }
  [[nodiscard]] const std::vector<std::unique_ptr<Child>>& processes() const noexcept {
    return processes_;
  }
  /// Processes that have ended since the last call, in words.
  [[nodiscard]] std::vector<std::string> deaths();

 private:
  LocalCluster();
  Outcome<> start_server(const ClusterConfig& config, Signals& signals);
  Outcome<> start_nodes(const ClusterConfig& config, Signals& signals);

  std::string secret_;
  std::string server_;
  std::vector<std::unique_ptr<Child>> processes_;  ///< the server first
  std::vector<bool> reported_;
};

}  // namespace membrain
