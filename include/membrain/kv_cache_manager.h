// The blocks of one engine's own KV cache: who uses which, and what is in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "membrain/block.h"
#include "membrain/result.h"

namespace membrain {

/// An engine's own name of a request. Not 0.
struct RequestId {
  std::uint64_t value = 0;
  bool operator==(const RequestId&) const = default;
};

/// Blocks of a prompt's beginning that need not be computed.
struct ComputedBlocks {
  std::size_t local = 0;   ///< in this engine's cache
  std::size_t remote = 0;  ///< behind them, in the cluster's
};

struct KvCacheUse {
  std::uint32_t blocks = 0;        ///< of the cache
  std::uint32_t used_blocks = 0;   ///< by requests
  std::uint32_t named_blocks = 0;  ///< with a published content, used or not
  std::uint32_t requests = 0;
  std::uint64_t reused = 0;  ///< blocks that lost a published content to a new one, so far
};

/// Gives an engine's blocks (ids 0 .. blocks-1 of its `Layout`) to requests, shares them between
/// requests with the same beginning, and keeps what is in them as long as nobody needs the room:
///
///     const auto found = manager.computed_blocks(hashes, match.prefix_blocks());
///     manager.allocate(request, hashes, blocks_of_the_prompt);   // shares found.local of them
///     // fetch found.remote blocks into blocks_of(request)[found.local ...], compute the rest, and
///     manager.publish(request, hashes_of_full_blocks);           // now others may share them
///     manager.free(request);  // what is in them stays while there is room
///
/// A block is used by as many requests as share it (its refcount). One that nobody uses keeps its
/// name until it is taken for something else: the least recently used first, and of one request its
/// last block first, because a block without those before it is of no use.
///
/// Pure: no memory of the cache is touched, no clock, no I/O.
///
/// Ownership  Of ids, not of memory. Move-only.
/// Threads    One at a time.
/// Cost       A hash look-up for each block; nothing is allocated after `create` but for requests.
/// Errors     A call that fails has changed nothing.
class KvCacheManager {
 public:
  static constexpr std::uint32_t kMaxBlocks = 1U << 26;

  /// `invalid_argument` for no blocks, or more than kMaxBlocks.
  static Result<KvCacheManager> create(std::uint32_t blocks);
  KvCacheManager(KvCacheManager&&) noexcept;
  KvCacheManager& operator=(KvCacheManager&&) noexcept;
  ~KvCacheManager();

  /// What of a prompt is there. `remote_blocks`: of its beginning that the cluster has
  /// (`Match::prefix_blocks`). Changes nothing.
  [[nodiscard]] ComputedBlocks computed_blocks(std::span<const BlockHash> hashes,
                                               std::size_t remote_blocks = 0) const;

  /// Gives a request `count` blocks in all: at first those of its `hashes` that are in the cache,
  /// as many as `computed_blocks` says, and new ones behind them; later, for more tokens, only new
  /// ones (`hashes` are not looked at). Returns how many are shared.
  ///
  /// `out_of_capacity`: too few are free. `invalid_argument`: no request, fewer blocks than it has
  /// or than are shared.
  Result<std::size_t> allocate(RequestId request, std::span<const BlockHash> hashes,
                               std::size_t count);

  /// Names the request's first blocks, which are full and hold what their hashes say, so that
  /// others may share them. Blocks that have a name keep it. Where another block has the same name,
  /// that one is shared; this one can be named again when that one was reused.
  ///
  /// `invalid_argument`: more hashes than it has blocks; a block with another name.
  Result<> publish(RequestId request, std::span<const BlockHash> hashes);

  /// Gives all blocks of a request back. `not_found` if it has none.
  Result<> free(RequestId request);

  /// Forgets what is in all blocks, when the model's weights have changed. Requests that have some
  /// keep them, and publish nothing any more.
  void forget();

  /// The request's blocks in the order of its tokens; none if it is not known. Valid until the next
  /// call that is not const.
  [[nodiscard]] std::span<const std::uint32_t> blocks_of(RequestId request) const;
  /// Requests that use a block.
  [[nodiscard]] std::uint32_t refcount(std::uint32_t block) const;
  [[nodiscard]] KvCacheUse use() const;

 private:
  struct State;
  explicit KvCacheManager(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

}  // namespace membrain
