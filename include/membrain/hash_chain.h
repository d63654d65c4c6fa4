// Prefix hashes from token ids, for engines that do not compute their own.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "membrain/block.h"

namespace membrain {

enum class HashAlgorithm : std::uint8_t {
  sha256,    ///< 32-byte hashes; collision-resistant against an attacker who chooses tokens
  xxh3_128,  ///< 16-byte hashes; fast, for tenants that trust their own prompts
};

/// Hashes full blocks of tokens so that a block's hash names its tokens and everything before them:
///     H_0 = f(seed), H_i = f(H_{i-1}, tokens_i, extra_i)
/// (the prefix hash chain of PagedAttention prefix caching; see docs/protocol.md, "Names", for the
/// exact bytes).
///
/// Threads  Immutable; any thread may hash. Cost: one pass over the tokens, no allocation but the
///          result.
class HashChain {
 public:
  /// `seed` makes chains of different deployments incomparable; equal seeds give equal hashes on
  /// every machine.
  HashChain(HashAlgorithm algorithm, std::uint32_t block_tokens, std::string_view seed);

  /// Hashes of the full blocks of `tokens`; a tail shorter than a block has none. `extra_keys[i]`,
  /// if given, is mixed into block i (adapter name, image id, cache salt); shorter is fine.
  [[nodiscard]] std::vector<BlockHash> hash(std::span<const std::uint32_t> tokens,
                                            std::span<const std::string> extra_keys = {}) const;

  /// The hash of one block after `parent` (empty for the first block): how a chain is extended
  /// while decoding.
  [[nodiscard]] BlockHash next(const BlockHash& parent, std::span<const std::uint32_t> tokens,
                               std::string_view extra_key = {}) const;

  [[nodiscard]] std::uint32_t block_tokens() const noexcept { return block_tokens_; }
  /// Hexadecimal digest of algorithm and seed, for `Namespace::hash_seed_fingerprint`.
  [[nodiscard]] std::string fingerprint() const;

 private:
  HashAlgorithm algorithm_;
  std::uint32_t block_tokens_;
  BlockHash root_;
};

}  // namespace membrain
