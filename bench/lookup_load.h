// A client that looks up prompts at a filled server.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "bench/filled_server.h"
#include "membrain/client.h"

namespace membrain {

/// A real client with its namespace, and 256 prompts of 512 blocks that it asks for in turn.
///
/// Threads  One thread calls, and with `Threads::caller` does the client's work too.
class LookupLoad {
 public:
  LookupLoad(const FilledServer& server, ClientConfig::Threads threads, std::uint64_t seed);
  /// Waits for what is under way.
  ~LookupLoad();
  LookupLoad(const LookupLoad&) = delete;
  LookupLoad& operator=(const LookupLoad&) = delete;

  /// One more lookup.
  void begin(LookupOptions::Mode mode);
  [[nodiscard]] std::size_t under_way() const noexcept { return under_way_.size(); }
  [[nodiscard]] bool oldest_done() const noexcept;
  /// Waits for the oldest lookup under way: how many blocks it found. What it pinned is released.
  std::size_t take_oldest();
  /// With `Threads::caller`.
  void poll() { client_->poll(); }

 private:
  std::unique_ptr<Client> client_;
  OpenedNamespace space_;
  std::vector<std::vector<BlockHash>> prompts_;
  std::size_t next_ = 0;
  std::deque<Operation<Match>> under_way_;
};

}  // namespace membrain
