#include "base/key.h"

#include <xxhash.h>

#include <cstring>
#include <vector>

#include "base/codec.h"

namespace membrain {

namespace {

/// Every field with its length before it, so that no two namespaces share an encoding.
std::vector<std::byte> encode(const Namespace& space, bool with_seed) {
  std::vector<std::byte> bytes;
  Writer out(bytes);
  out.put(std::string_view("membrain namespace 1"));
  out.put(std::string_view(space.model));
  out.put(std::string_view(space.revision));
  out.put(std::string_view(space.weights_version));
  out.put(std::string_view(space.kv_dtype));
  out.put(space.block_tokens);
  out.put(std::string_view(space.layout));
  out.put(space.part_count);
  out.put(space.kv_group);
  out.put(std::string_view(space.hash_algorithm));
  if (with_seed) out.put(std::string_view(space.hash_seed_fingerprint));
  out.put(std::string_view(space.tenant));
  return bytes;
}

}  // namespace

Digest digest_of(const Namespace& space) noexcept {
  return sha256(encode(space, true));
}

Digest family_of(const Namespace& space) noexcept {
  return sha256(encode(space, false));
}

NamespaceId namespace_id(const Digest& digest) noexcept {
  NamespaceId id;
  std::memcpy(&id.value, digest.data(), sizeof id.value);
  if (id.value == 0) id.value = 1;
  return id;
}

KeyMaker::KeyMaker(const Digest& namespace_digest, std::span<const std::byte> tenant_key) noexcept {
  static_assert(kSecretBytes >= XXH3_SECRET_SIZE_MIN && kSecretBytes % sizeof(Digest) == 0);
  for (std::size_t at = 0; at < kSecretBytes; at += sizeof(Digest)) {
    const std::byte counter[] = {static_cast<std::byte>(at / sizeof(Digest))};
    const std::span<const std::byte> parts[] = {as_bytes("membrain key secret"), namespace_digest,
                                                counter};
    const Digest chunk = hmac_sha256(tenant_key, parts);
    std::memcpy(secret_.data() + at, chunk.data(), chunk.size());
  }
}

BlockKey KeyMaker::key(const BlockHash& hash) const noexcept {
  // 32 bytes and the length: hashes of different lengths never collide by zero padding.
  std::array<std::byte, BlockHash::kMaxBytes + 1> input{};
  std::memcpy(input.data(), hash.bytes.data(), BlockHash::kMaxBytes);
  input.back() = static_cast<std::byte>(hash.size);
  const XXH128_hash_t made =
      XXH3_128bits_withSecret(input.data(), input.size(), secret_.data(), secret_.size());
  BlockKey key{made.low64, made.high64};
  if (!key) key.low = 1;
  return key;
}

}  // namespace membrain
