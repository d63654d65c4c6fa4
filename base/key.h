// From an engine's block hash to the 16 bytes that name the block on the wire.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "base/ids.h"
#include "base/mac.h"
#include "membrain/block.h"

namespace membrain {

/// SHA-256 over a canonical encoding of every field. Equal digests mean exchangeable blocks.
[[nodiscard]] Digest digest_of(const Namespace& space) noexcept;

/// The digest of a namespace without its hash seed: two namespaces that share it and differ in full
/// are most likely one deployment with a mistake in it (the same model, another PYTHONHASHSEED).
[[nodiscard]] Digest family_of(const Namespace& space) noexcept;

/// The id on the wire: the first 8 bytes of the digest, never 0.
[[nodiscard]] NamespaceId namespace_id(const Digest& digest) noexcept;

/// Makes keys for one namespace and tenant: XXH3-128 of the block hash with a secret derived from
/// both, so that a tenant can neither guess nor probe another's keys.
///
/// Threads  Immutable after construction.
class KeyMaker {
 public:
  KeyMaker(const Digest& namespace_digest, std::span<const std::byte> tenant_key) noexcept;
  [[nodiscard]] BlockKey key(const BlockHash& hash) const noexcept;

 private:
  static constexpr std::size_t kSecretBytes = 192;  ///< XXH3's default secret size
  std::array<std::byte, kSecretBytes> secret_{};
};

}  // namespace membrain
