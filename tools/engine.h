// One inference engine, without the inference: looks up, fetches, checks, "computes", stores.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "membrain/client.h"
#include "tools/engine_wire.h"
#include "tools/outcome.h"

namespace membrain {

struct EngineConfig {
  std::string server;
  std::string secret;
  std::string label;
  std::string space = "replay";  ///< engines of another name share nothing with this one
  std::uint64_t block_bytes = 65536;
  std::chrono::milliseconds timeout{10000};  ///< of one lookup, fetch or store
  bool one_sided_reads = false;              ///< read nodes' blocks by RDMA alone
  bool verify = true;                        ///< hash what arrived before using it
};

/// Plays requests against a cluster, one at a time.
///
/// Ownership  Owns its client and one buffer of at most 64 MiB (or one block).
/// Threads    One.
class Engine {
 public:
  static constexpr std::uint64_t kMaxBlockBytes = std::uint64_t{64} << 20;

  static Outcome<std::unique_ptr<Engine>> open(const EngineConfig& config);

  /// Never fails: what goes wrong is a miss, or a block that is not stored.
  EngineReport play(const EngineTask& task);

 private:
  Engine(EngineConfig config, std::unique_ptr<Client> client, OpenedNamespace space) noexcept;

  void fetch_prefix(const Match& match, const EngineTask& task, EngineReport& report);
  void fetch_some(const Match& match, const EngineTask& task, std::size_t first, std::size_t count,
                  EngineReport& report);
  void accept(const EngineTask& task, std::size_t first, const TransferReport& fetched,
              EngineReport& report);
  void store_rest(const EngineTask& task, EngineReport& report);
  void store_some(const EngineTask& task, std::span<const std::size_t> blocks,
                  EngineReport& report);
  [[nodiscard]] std::span<std::byte> buffer(std::size_t blocks);
  [[nodiscard]] std::span<std::byte> block_of(std::size_t place) noexcept;

  EngineConfig config_;
  std::unique_ptr<Client> client_;
  OpenedNamespace space_;
  std::size_t blocks_at_once_;
  std::vector<std::byte> buffer_;
  std::vector<BlockHash> hashes_;  ///< of the task under way
  std::vector<bool> here_;         ///< its blocks that were fetched
};

}  // namespace membrain
