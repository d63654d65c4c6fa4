#include "cache/node/authority.h"

#include "protocol/proofs.h"

namespace membrain {

namespace {

bool same(const wire::SessionProof& a, const wire::SessionProof& b) noexcept {
  return a.session == b.session && a.epoch == b.epoch && a.grant == b.grant &&
         a.expires_ms == b.expires_ms && equal_in_constant_time(a.mac, b.mac);
}

}  // namespace

void Authority::accept(Epoch epoch, const Digest& grant_key) {
  if (epoch == current_.epoch && grant_key == current_.grant_key) return;
  if (epoch != current_.epoch) previous_ = current_;
  current_ = {epoch, grant_key};
  verified_ = {};
}

wire::ItemStatus Authority::check(const wire::SessionProof& proof) {
  if (!current_.epoch || proof.epoch > current_.epoch) return wire::ItemStatus::unavailable;
  if (!proof.session) return wire::ItemStatus::denied;
  const std::uint64_t mixed = proof.session.value * 31 + proof.grant.value;
  wire::SessionProof& remembered = verified_[mixed % kRemembered];
  if (same(remembered, proof)) return wire::ItemStatus::ok;
  for (const Term& term : {current_, previous_}) {
    if (!term.epoch || term.epoch != proof.epoch) continue;
    if (!equal_in_constant_time(session_mac(term.grant_key, proof), proof.mac)) break;
    remembered = proof;
    return wire::ItemStatus::ok;
  }
  return wire::ItemStatus::denied;
}

}  // namespace membrain
