#include "cache/node/authority.h"

#include <algorithm>

#include "protocol/proofs.h"

namespace membrain {

namespace {

bool same(const wire::SessionProof& a, const wire::SessionProof& b) noexcept {
  return a.session == b.session && a.epoch == b.epoch && a.grant == b.grant &&
         a.expires_ms == b.expires_ms && equal_in_constant_time(a.mac, b.mac);
}

}  // namespace

void Authority::keep(const std::vector<ShardId>& shards) {
  const auto gone = [&](const auto& known) {
    return std::find(shards.begin(), shards.end(), known.first) == shards.end();
  };
  if (std::erase_if(shards_, gone) > 0) verified_ = {};
  for (const ShardId shard : shards) shards_.try_emplace(shard);
}

void Authority::accept(ShardId shard, Epoch epoch, const Digest& grant_key) {
  Terms& terms = shards_[shard];
  if (epoch == terms.current.epoch && grant_key == terms.current.grant_key) return;
  if (epoch != terms.current.epoch) terms.previous = terms.current;
  terms.current = {epoch, grant_key};
  latest_ = std::max(latest_, epoch);
  verified_ = {};
}

wire::ItemStatus Authority::check(const wire::SessionProof& proof) {
  const Term* const term = term_of(proof.epoch);
  if (term == nullptr && may_come(proof.epoch)) return wire::ItemStatus::unavailable;
  if (term == nullptr || !proof.session) return wire::ItemStatus::denied;
  const std::uint64_t mixed = proof.session.value * 31 + proof.grant.value;
  wire::SessionProof& remembered = verified_[mixed % kRemembered];
  if (same(remembered, proof)) return wire::ItemStatus::ok;
  if (!equal_in_constant_time(session_mac(term->grant_key, proof), proof.mac)) {
    return wire::ItemStatus::denied;
  }
  remembered = proof;
  return wire::ItemStatus::ok;
}

const Authority::Term* Authority::term_of(Epoch epoch) const noexcept {
  if (!epoch) return nullptr;
  for (const auto& [shard, terms] : shards_) {
    if (terms.current.epoch == epoch) return &terms.current;
    if (terms.previous.epoch == epoch) return &terms.previous;
  }
  return nullptr;
}

/// Some shard may be in this term by now, or there is none yet.
bool Authority::may_come(Epoch epoch) const noexcept {
  return shards_.empty() || std::any_of(shards_.begin(), shards_.end(), [&](const auto& known) {
           return epoch > known.second.current.epoch || !known.second.current.epoch;
         });
}

}  // namespace membrain
