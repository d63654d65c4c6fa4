// Authority: whose word counts: the shards' epochs, and the proofs that they handed to clients.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "base/ids.h"
#include "base/mac.h"
#include "protocol/messages.h"

namespace membrain {

/// Checks a client's SessionProof with the grant key of the term that it names: the current one of
/// any shard or the one before it. No two terms of a cluster have the same epoch, whatever their
/// shards. A grant's expiry is the shard's to enforce (by its pins); a late read is safe by
/// generation and checksum.
///
/// Threads  One. Cost: an HMAC for a proof that was not seen lately, a comparison for others.
class Authority {
 public:
  /// These are the shards that there are; what is known of others is forgotten.
  void keep(const std::vector<ShardId>& shards);
  /// A term of this shard has accepted the node. Never called with a lower epoch than before.
  void accept(ShardId shard, Epoch epoch, const Digest& grant_key);

  /// `ok`, `denied`, or `unavailable`: the proof may be of a term that this node has not joined
  /// yet, because some shard's current one is earlier.
  [[nodiscard]] wire::ItemStatus check(const wire::SessionProof& proof);

  /// The highest epoch of all shards; 0 before the first.
  [[nodiscard]] Epoch latest() const noexcept { return latest_; }

 private:
  struct Term {
    Epoch epoch;
    Digest grant_key{};
  };
  struct Terms {
    Term current;
    Term previous;
  };
  static constexpr std::size_t kRemembered = 1024;  ///< verified proofs

  [[nodiscard]] const Term* term_of(Epoch epoch) const noexcept;
  [[nodiscard]] bool may_come(Epoch epoch) const noexcept;

  std::map<ShardId, Terms> shards_;
  Epoch latest_;
  std::array<wire::SessionProof, kRemembered> verified_{};
};

}  // namespace membrain
