// BlockPool: refcounts and names of an engine's blocks, and in which order free ones are reused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <unordered_map>
#include <vector>

#include "membrain/block.h"

namespace membrain {

struct BlockHashBits {
  std::size_t operator()(const BlockHash& hash) const noexcept {
    std::size_t bits = 0;  // of a digest: as good as any
    std::memcpy(&bits, hash.bytes.data(), sizeof bits);
    return bits;
  }
};

/// Free blocks are a list from the first to be reused to the last.
///
/// Threads  One at a time.
class BlockPool {
 public:
  explicit BlockPool(std::uint32_t blocks);

  [[nodiscard]] std::optional<std::uint32_t> find(const BlockHash& name) const;
  [[nodiscard]] bool is_free(std::uint32_t block) const { return blocks_[block].refs == 0; }
  [[nodiscard]] std::uint32_t refs(std::uint32_t block) const { return blocks_[block].refs; }
  [[nodiscard]] const BlockHash& name(std::uint32_t block) const { return blocks_[block].name; }
  [[nodiscard]] std::uint32_t count() const noexcept { return last_; }
  [[nodiscard]] std::uint32_t free_count() const noexcept { return free_; }
  [[nodiscard]] std::size_t named_count() const noexcept { return index_.size(); }
  [[nodiscard]] std::uint64_t reused() const noexcept { return reused_; }

  /// One more uses it.
  void share(std::uint32_t block);
  /// The free block that is reused next, without its name. There is one.
  std::uint32_t take();
  /// One less uses it. When nobody does, it is reused after all that are free now.
  void give_back(std::uint32_t block);
  /// Names a block that has none. False if another one has the name, and keeps it.
  bool set_name(std::uint32_t block, const BlockHash& name);
  void forget_names();

 private:
  struct Block {
    BlockHash name;  ///< empty: none
    std::uint32_t refs = 0;
    std::uint32_t before = 0, after = 0;  ///< in the list of free ones
  };

  void link_last(std::uint32_t block);
  void unlink(std::uint32_t block);

  const std::uint32_t last_;   ///< the list's own place in blocks_: its ends
  std::vector<Block> blocks_;  ///< and one more
  std::unordered_map<BlockHash, std::uint32_t, BlockHashBits> index_;
  std::uint32_t free_ = 0;
  std::uint64_t reused_ = 0;
};

}  // namespace membrain
