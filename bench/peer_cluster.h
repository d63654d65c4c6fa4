// Membrain's side of the comparison with its peers: a server and a node as processes of their own,
// as in production, and one client in this process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bench/page_memory.h"
#include "membrain/client.h"
#include "tools/cluster.h"
#include "tools/outcome.h"

namespace membrain {

/// Writes what value `number` holds: every word of it differs from every other word.
void fill_value(std::uint64_t number, std::span<std::byte> into) noexcept;
/// True if `bytes` are what `fill_value` writes.
[[nodiscard]] bool is_value(std::uint64_t number, std::span<const std::byte> bytes) noexcept;
/// A name of 16 bytes.
[[nodiscard]] BlockHash hash_of_value(std::uint64_t number) noexcept;

/// How blocks come: in messages, or straight from the node's memory, which lies on this host.
enum class Path { tcp, mapped };

/// A client that does all its work on the thread that calls it.
[[nodiscard]] std::unique_ptr<Client> caller_driven_client(const std::string& server,
                                                           const std::string& secret, Path path);

/// Ownership  Destroying it ends the processes. Threads: one.
class PeerCluster {
 public:
  /// Runs the `membrain` binary that lies near this one. Complains if there is none.
  static Outcome<std::unique_ptr<PeerCluster>> start(std::uint64_t capacity_bytes);

  [[nodiscard]] std::unique_ptr<Client> connect(Path path) const {
    return caller_driven_client(processes_->server(), processes_->secret(), path);
  }
  /// Stores values `first` and on, so many bytes each; false if one of them was not kept.
  bool store(Client& client, std::uint64_t first, std::size_t count, std::size_t bytes) const;
  [[nodiscard]] OpenedNamespace space_of(Client& client) const;

 private:
  std::unique_ptr<LocalCluster> processes_;
};

}  // namespace membrain
