// An engine of a torture run: does what it likes with the cluster, checks every byte, and tells
// what it was told.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "membrain/client.h"
#include "tools/outcome.h"
#include "tools/torture_blocks.h"
#include "tools/torture_wire.h"

namespace membrain {

struct TortureEngineConfig {
  std::string server;
  std::string secret;
  std::string label;
  TortureBlocks blocks;
  std::uint64_t seed = 1;
  std::chrono::milliseconds timeout{2000};  ///< of every operation
  bool mapped = true;                       ///< read and write arenas of this host in place
};

/// Ownership  Owns its client and its buffers. Threads: one.
class TortureEngine {
 public:
  static constexpr std::size_t kMostHeld = 4;  ///< matches, with their pins

  using Tell = std::function<void(const TortureRecord&)>;

  /// Waits for a server, until `timeout`; false if there was none.
  static std::unique_ptr<TortureEngine> open(const TortureEngineConfig& config, Tell tell);

  /// One thing, whatever the dice say.
  void step();
  void release_all();

 private:
  TortureEngine(TortureEngineConfig config, Tell tell, std::unique_ptr<Client> client);

  struct Held {
    std::uint64_t number = 0;
    std::uint32_t space = 0;
    std::vector<std::uint64_t> blocks;  ///< that it pins
    Match match;
  };
  struct Prompt {
    std::uint32_t space = 0;
    std::vector<std::uint64_t> blocks;
  };

  [[nodiscard]] std::uint64_t draw(std::uint64_t below) { return random_() % below; }
  [[nodiscard]] Prompt draw_prompt();
  [[nodiscard]] TortureRecord begin(TortureRecord::Op op, std::uint32_t space) const;
  /// Tells that it is under way.
  void announce(TortureRecord record) const;

  void open_namespace(std::uint32_t space);
  void work();
  void probe();
  void fetch(const Held& held);
  void store(const Prompt& prompt, std::size_t from);
  void store_in_place(const Prompt& prompt);
  void clear();
  void release(std::size_t index);
  void note_items(const Prompt& prompt, std::size_t from, const Result<TransferReport>& report,
                  TortureRecord& record) const;
  [[nodiscard]] std::vector<BlockHash> hashes_of(const std::vector<std::uint64_t>& blocks) const;

  TortureEngineConfig config_;
  Tell tell_;
  std::mt19937_64 random_;
  std::unique_ptr<Client> client_;
  std::array<OpenedNamespace, TortureBlocks::kSpaces> spaces_{};
  std::deque<Held> held_;
  std::uint64_t next_match_ = 1;
  TimePoint next_clear_;
};

}  // namespace membrain
