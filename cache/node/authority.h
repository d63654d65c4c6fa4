// Authority: whose word counts: the shard's epoch, and the proofs that it handed to clients.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/ids.h"
#include "base/mac.h"
#include "protocol/messages.h"

namespace membrain {

/// Checks a client's SessionProof with the grant key of the current epoch or of the one before it.
/// A grant's expiry is the shard's to enforce (by its pins); a late read is safe by generation and
/// checksum.
///
/// Threads  One. Cost: an HMAC for a proof that was not seen lately, a comparison for others.
class Authority {
 public:
  /// A shard of this epoch has accepted the node. Never called with a lower one than before.
  void accept(Epoch epoch, const Digest& grant_key);

  /// `ok`, `denied`, or `unavailable`: the proof is of an epoch that this node has not joined yet.
  [[nodiscard]] wire::ItemStatus check(const wire::SessionProof& proof);

  [[nodiscard]] Epoch epoch() const noexcept { return current_.epoch; }

 private:
  struct Term {
    Epoch epoch;
    Digest grant_key{};
  };
  static constexpr std::size_t kRemembered = 1024;  ///< verified proofs

  Term current_;
  Term previous_;
  std::array<wire::SessionProof, kRemembered> verified_{};
};

}  // namespace membrain
