// A shard that knows many blocks, for benchmarks that call it in their own process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/ids.h"
#include "membrain/block.h"
#include "protocol/messages.h"
#include "server/shard.h"
#include "server/term.h"

namespace membrain {

inline constexpr std::uint32_t kPromptBlocks = 512;  ///< each block hangs on the one before it
inline constexpr std::uint32_t kBenchSlotBytes = 4096;

/// The engine's name of block `number`, the same for whoever asks.
[[nodiscard]] BlockHash bench_hash(std::uint64_t number);
/// The namespace that all of these benchmarks use.
[[nodiscard]] Namespace bench_namespace();
/// A key as uniform as real ones, for who needs no client that would derive the real one.
[[nodiscard]] BlockKey bench_key(std::uint64_t number) noexcept;
/// What a node publishes of block `number`.
[[nodiscard]] wire::SlotEntry bench_entry(NamespaceId space, Era era, std::uint64_t number,
                                          BlockKey key, BlockKey parent);

/// A shard in this process, called as its service would call it.
class FilledShard {
 public:
  explicit FilledShard(std::uint64_t blocks);

  /// Pins a prompt of 512 blocks and gives it back; false if a block was missed.
  bool lookup_and_unpin(std::uint64_t prompt);
  /// A full shard: 512 blocks go, 512 come.
  void replace_prompt();
  [[nodiscard]] std::uint64_t prompts() const noexcept { return blocks_ / kPromptBlocks; }
  [[nodiscard]] const Shard& shard() const noexcept { return *shard_; }
  [[nodiscard]] SpaceIndex space() const noexcept { return shard_->namespaces().find(space_); }
  /// What filling it added to the process's resident memory, in bytes.
  [[nodiscard]] std::size_t resident_bytes() const noexcept { return resident_bytes_; }

 private:
  void publish(std::span<const SlotId> slots);

  LoneTenure tenure_;
  std::unique_ptr<Shard> shard_;
  wire::RegisterNode node_;
  NamespaceId space_;
  Era era_;
  std::uint64_t blocks_;
  std::uint64_t next_block_ = 0;
  std::uint64_t next_lookup_ = 1;
  std::size_t resident_bytes_ = 0;
};

}  // namespace membrain
