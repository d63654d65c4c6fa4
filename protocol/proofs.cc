#include "protocol/proofs.h"

#include "base/codec.h"

namespace membrain {

Digest tenant_key(std::string_view secret, std::string_view tenant) noexcept {
  const std::span<const std::byte> parts[] = {as_bytes("membrain tenant"), as_bytes(tenant)};
  return hmac_sha256(as_bytes(secret), parts);
}

Digest hello_proof(const Digest& tenant_key, std::string_view tenant,
                   const Binding& binding) noexcept {
  const std::span<const std::byte> parts[] = {as_bytes("membrain hello"), as_bytes(tenant),
                                              binding};
  return hmac_sha256(tenant_key, parts);
}

Digest register_proof(std::string_view secret, NodeId node, Incarnation incarnation,
                      const Binding& binding) noexcept {
  std::vector<std::byte> who;
  Writer out(who);
  out.put(node), out.put(incarnation);
  const std::span<const std::byte> parts[] = {as_bytes("membrain register"), who, binding};
  return hmac_sha256(as_bytes(secret), parts);
}

Digest group_proof(const Digest& tenant_key, std::string_view group, std::uint32_t rank,
                   std::uint32_t size, const Binding& binding) noexcept {
  std::vector<std::byte> who;
  Writer out(who);
  out.put(rank), out.put(size);
  const std::span<const std::byte> parts[] = {as_bytes("membrain group"), as_bytes(group), who,
                                              binding};
  return hmac_sha256(tenant_key, parts);
}

MacTag session_mac(const Digest& grant_key, const wire::SessionProof& proof) noexcept {
  std::vector<std::byte> what;
  Writer out(what);
  out.put(proof.session), out.put(proof.epoch), out.put(proof.grant), out.put(proof.expires_ms);
  const std::span<const std::byte> parts[] = {as_bytes("membrain session"), what};
  return truncate(hmac_sha256(grant_key, parts));
}

}  // namespace membrain
