// One engine process of store_bench: a client and its memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/page_memory.h"
#include "bench/store_parties.h"
#include "membrain/client.h"

namespace membrain {

/// Keeps a working set of several batches, each a prompt of its own, so that what passes through
/// the caches is more than they hold.
///
/// Threads  One.
class StoreEngine {
 public:
  StoreEngine(const StoreBenchConfig& config, std::size_t index);
  /// Batches in the working set.
  [[nodiscard]] static std::size_t sets(const StoreBenchConfig& config) noexcept;

  /// Serves orders until the wire ends; the process's exit status.
  int serve(OrderWire& orders);

 private:
  [[nodiscard]] bool prepare(const std::string& server);
  [[nodiscard]] bool store_working_set();
  [[nodiscard]] bool contents_are_right() const;
  [[nodiscard]] bool get(std::size_t set);
  [[nodiscard]] bool fetch(std::size_t set);
  [[nodiscard]] bool store_new();
  [[nodiscard]] bool clear();
  [[nodiscard]] RoundReport repeat(RoundOrder::What what, std::size_t count);
  [[nodiscard]] bool once(RoundOrder::What what);
  [[nodiscard]] std::byte* memory_of(std::size_t set, std::size_t block) noexcept;
  void fill(std::size_t set);

  StoreBenchConfig config_;
  std::size_t index_;
  std::size_t sets_;
  std::unique_ptr<Client> client_;
  OpenedNamespace kept_;     ///< of the working set
  OpenedNamespace passing_;  ///< of what `store` stores
  PageMemory memory_;
  std::vector<std::vector<BlockHash>> hashes_;         ///< by set
  std::vector<std::vector<FetchItem>> fetches_;        ///< by set
  std::vector<StoreItem> stores_;                      ///< of a batch; hashes change
  std::vector<Match> held_;                            ///< by set
  std::size_t next_ = 0;                               ///< set
  std::uint64_t next_block_ = std::uint64_t{1} << 40;  ///< number of the next new block
};

}  // namespace membrain
