// The processes of store_bench: a cluster, and the engines that use it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/forked.h"

namespace membrain {

struct StoreBenchConfig {
  std::string lane;  ///< "tcp", or "mapped": in the node's memory, what is said by tcp
  std::size_t block_bytes = 0;
  std::size_t batch = 1;    ///< blocks of one call
  std::size_t clients = 1;  ///< processes
  bool caller_drives = true;
};

/// What an engine process is told to do.
struct RoundOrder {
  enum class What : std::uint32_t {
    prepare,  ///< connect, store the working set, look it up, fetch it and compare every byte
    get,      ///< lookup, fetch, release: `count` times
    fetch,    ///< fetch of what was looked up before: `count` times
    store,    ///< store blocks that nobody has: `count` times
    clear,    ///< forget what `store` kept
  } what = What::prepare;
  std::uint32_t count = 0;
  std::array<char, 64> server{};  ///< with `prepare`
};

struct RoundReport {
  bool ok = false;
  double p50_us = 0;  ///< of one call
  double p99_us = 0;
};

/// One server and one node in a process of their own, C engines in theirs.
///
/// Ownership  Owns the processes. Destroying it ends them.
/// Threads    One, before UCX is used in this process.
class StoreParties {
 public:
  explicit StoreParties(const StoreBenchConfig& config);

  /// Starts everything; false with the reason on stderr.
  [[nodiscard]] bool prepare();
  /// All engines do `what` at once; false if one of them failed.
  [[nodiscard]] bool run(RoundOrder::What what, std::size_t count);
  /// Waits until the node has room for another round of stores.
  [[nodiscard]] bool wait_for_room();

  /// Calls of one round: long enough for the start of a round to cost nothing.
  [[nodiscard]] std::size_t calls_per_round() const noexcept;
  [[nodiscard]] std::size_t bytes_per_call() const noexcept;
  [[nodiscard]] double p50_us() const noexcept { return p50_us_; }  ///< last round, worst engine
  [[nodiscard]] double p99_us() const noexcept { return p99_us_; }

 private:
  StoreBenchConfig config_;
  std::unique_ptr<Forked> cluster_;
  std::vector<std::unique_ptr<Forked>> engines_;
  double p50_us_ = 0;
  double p99_us_ = 0;
};

}  // namespace membrain
