// The cluster of a torture run: members of etcd, servers and nodes, processes that can be hurt, all
// on loopback, leaving nothing behind.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/leader_status.h"
#include "tools/outcome.h"
#include "tools/resident.h"
#include "tools/torture_arena.h"

namespace membrain {

struct TortureHouseConfig {
  std::uint64_t members = 3;  ///< of etcd; 0: one server, alone
  std::uint64_t servers = 2;
  std::uint64_t shards = 1;
  std::uint64_t nodes = 2;
  std::uint64_t replicas = 1;                          ///< wanted of each block
  std::uint64_t arena_bytes = std::uint64_t{4} << 20;  ///< of each node
};

/// Ownership  Destroying it ends all processes and removes its folders. Threads: one.
class TortureHouse {
 public:
  /// Starts everything and does not wait. Complains if etcd is missing.
  static Outcome<std::unique_ptr<TortureHouse>> start(const TortureHouseConfig& config);
  ~TortureHouse();
  TortureHouse(const TortureHouse&) = delete;
  TortureHouse& operator=(const TortureHouse&) = delete;

  [[nodiscard]] const std::string& secret() const noexcept { return secret_; }
  [[nodiscard]] std::string servers_list() const;
  [[nodiscard]] const std::string& folder() const noexcept { return folder_; }
  [[nodiscard]] std::string log_of(const std::string& name) const;
  /// Logs stay where they are when it is destroyed.
  void keep_folder() noexcept { keep_ = true; }

  [[nodiscard]] std::vector<std::unique_ptr<Resident>>& members() noexcept { return members_; }
  [[nodiscard]] std::vector<std::unique_ptr<Resident>>& servers() noexcept { return servers_; }
  [[nodiscard]] std::vector<std::unique_ptr<Resident>>& nodes() noexcept { return nodes_; }

  /// Asks the servers that run; none if there is a shard that nobody says to lead.
  [[nodiscard]] std::optional<LeaderStatus> leader() const;
  /// Everybody runs, every shard is led, and all nodes are with each.
  [[nodiscard]] bool well();
  /// Those that have ended by themselves since the last call, in words.
  [[nodiscard]] std::vector<std::string> deaths();

  [[nodiscard]] Outcome<TortureArena> arena(std::size_t node) const;
  /// Files in shared memory; there should be one for each node.
  [[nodiscard]] std::vector<std::string> shared_files() const;

 private:
  explicit TortureHouse(const TortureHouseConfig& config);
  Outcome<> make_folders();
  Outcome<> add_members();
  void add_servers();
  void add_nodes();
  [[nodiscard]] ChildConfig child(const std::string& name) const;

  TortureHouseConfig config_;
  std::string secret_;
  std::string folder_;  ///< logs, and what etcd and servers keep
  std::string arenas_;  ///< in shared memory
  bool keep_ = false;
  std::string etcd_urls_;
  std::vector<std::string> addresses_;  ///< of servers
  std::vector<std::string> admins_;     ///< where they tell of themselves
  std::vector<std::unique_ptr<Resident>> members_;
  std::vector<std::unique_ptr<Resident>> servers_;
  std::vector<std::unique_ptr<Resident>> nodes_;
};

}  // namespace membrain
