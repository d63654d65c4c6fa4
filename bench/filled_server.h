// A server that knows many blocks, for benchmarks that ask it over UCX.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "bench/filled_shard.h"
#include "server/shard_service.h"
#include "server/term.h"
#include "transport/fabric.h"
#include "transport/loop.h"
#include "transport/ucx/ucx_fabric.h"

namespace membrain {

/// What clients of it must know.
[[nodiscard]] std::string_view bench_secret() noexcept;

/// A server on a loop and a thread of its own, over UCX, that has just begun to lead. Four nodes
/// report their blocks to it.
///
/// Threads  One thread calls.
class FilledServer {
 public:
  /// `context` decides the lane. It knows nothing until `fill`.
  FilledServer(std::shared_ptr<UcxContext> context, std::uint64_t blocks);
  ~FilledServer();
  FilledServer(const FilledServer&) = delete;
  FilledServer& operator=(const FilledServer&) = delete;

  [[nodiscard]] const std::string& address() const noexcept { return service_->address(); }
  [[nodiscard]] std::uint64_t prompts() const noexcept { return blocks_ / kPromptBlocks; }
  /// Processor time that the server's thread has taken so far.
  [[nodiscard]] Duration cpu();

  /// Until the nodes have reported all of their blocks; calls `meanwhile` all the time. Once.
  void fill(const std::function<void()>& meanwhile = [] {});

 private:
  struct Filler;  // a node, whose blocks stay for as long as its connection does

  SteadyClock clock_;
  std::shared_ptr<UcxContext> context_;
  std::uint64_t blocks_;
  LoneTenure tenure_;
  Loop loop_{clock_};
  std::unique_ptr<Fabric> fabric_;
  std::unique_ptr<ShardService> service_;
  std::thread thread_;
  Loop nodes_loop_{clock_};
  std::vector<std::unique_ptr<Filler>> nodes_;
};

}  // namespace membrain
