// Who did what to which blocks, and when: kept block by block, and judged in the end.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tools/block_history.h"

namespace membrain {

/// An operation of one client in one namespace.
struct HistoryCall {
  HistoryTime call = 0;
  HistoryTime ret = 0;
  std::uint32_t client = 0;
  std::uint32_t space = 0;  ///< a number of the namespace
  std::uint32_t era = 0;    ///< as the client knew it
};

/// What the judge said of all blocks.
struct Judgement {
  static constexpr std::size_t kMostTold = 10;

  std::uint64_t blocks = 0;
  std::uint64_t events = 0;
  std::uint64_t reads = 0;        ///< events that found, missed or lost a block
  std::uint64_t undisturbed = 0;  ///< of these, those in whose time there was no disturbance
  std::uint64_t anomalies = 0;    ///< blocks of which one was found
  std::uint64_t undecided = 0;    ///< blocks whose history is too wide to be searched
  std::vector<std::string> told;  ///< the first anomalies, at most kMostTold
};

/// Threads  One. Cost: some 80 bytes for each block that an operation names, until it is closed.
class HistoryBook {
 public:
  enum class Stored : std::uint8_t { stored, duplicate, unknown };

  void opened(const HistoryCall& by);
  void told_stale(const HistoryCall& by);
  void cleared(const HistoryCall& by, std::optional<std::uint32_t> next_era);
  /// The first `pinned` of the blocks are pinned by `match`, a number of that client.
  void looked_up(const HistoryCall& by, std::span<const std::uint64_t> blocks,
                 const std::vector<bool>& found, std::size_t pinned, std::uint64_t match);
  void stored(const HistoryCall& by, std::uint64_t block, Stored outcome);
  /// A fetch from `match` was told that the block is not there any more.
  void lost(const HistoryCall& by, std::uint64_t match, std::uint64_t block);
  void released(std::uint32_t client, std::uint64_t match, HistoryTime when);
  /// The client died, or was stopped: what it holds counts for nothing from then on.
  void released_all(std::uint32_t client, HistoryTime when);

  void disturbed(const Disturbance& disturbance) { rules_.disturbances.push_back(disturbance); }
  /// Of one block alone.
  void disturbed(std::uint32_t space, std::uint64_t block, const Disturbance& disturbance);
  /// Memory suffices: nothing is evicted.
  void enough_memory() { rules_.evicts = false; }

  /// Of blocks that are numbered below `end` nothing more will come: they are judged as they are
  /// and forgotten, and what should come nevertheless is ignored.
  void close_below(std::uint64_t end);
  /// Blocks that have been named and are not closed.
  [[nodiscard]] std::size_t open_blocks() const noexcept { return blocks_.size(); }

  /// What is closed and what is open.
  [[nodiscard]] Judgement judge_all() const;

 private:
  using Name = std::pair<std::uint32_t, std::uint64_t>;  ///< namespace, block
  struct Block {
    std::vector<BlockEvent> events;
    std::vector<Disturbance> disturbances;
  };
  struct Pinned {
    std::uint32_t space = 0;
    HistoryTime from = 0;
    std::vector<std::pair<std::uint64_t, std::size_t>> events;  ///< block, its event
  };

  [[nodiscard]] static BlockEvent event_of(BlockEvent::Kind kind, const HistoryCall& by);
  [[nodiscard]] bool closed(std::uint64_t block) const noexcept { return block < closed_below_; }
  void end_pins(const Pinned& pinned, HistoryTime when);
  static void count_reads(const std::vector<BlockEvent>& events, const BlockRules& rules,
                          Judgement& judgement);
  void judge_block(const Name& name, const Block& block, Judgement& judgement) const;
  static void judge_one(const std::string& name, std::vector<BlockEvent> events,
                        const BlockRules& rules, Judgement& judgement);

  std::map<Name, Block> blocks_;
  std::map<std::uint32_t, std::vector<BlockEvent>> eras_;    ///< by namespace: opened, cleared, ...
  std::map<std::uint32_t, std::vector<BlockEvent>> clears_;  ///< of these, what ends an era
  std::map<std::pair<std::uint32_t, std::uint64_t>, Pinned> pins_;  ///< by client and match
  BlockRules rules_;
  std::uint64_t closed_below_ = 0;
  Judgement closed_;  ///< what was said of blocks that are closed
};

}  // namespace membrain
