#include "cache/client/grant.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "base/checksum.h"
#include "base/codec.h"

namespace membrain {

namespace {

constexpr std::uint32_t kGrantMagic = 0x3147424d;  // "MBG1" in memory order
constexpr std::size_t kChecksumBytes = sizeof(Checksum);
constexpr std::size_t kLocationBytes = 40;
constexpr std::size_t kReplicaBytes = 4 + 2 + 1 + kLocationBytes + 16;
constexpr std::size_t kProofBytes = 8 + 8 + 8 + 8 + 16;
constexpr std::size_t kClaimBytes = 4 + 4 + kProofBytes;

void put_replicas(Writer& out, const Match::State& match) {
  for (std::size_t block = 0; block < match.keys.size(); ++block) {
    for (std::uint16_t part = 0; part < match.parts; ++part) {
      for (const FoundReplica& replica : match.replicas_of(block, part)) {
        out.put(static_cast<std::uint32_t>(block));
        out.put(part);
        out.put(replica.tier);
        out.put(replica.at);
        out.put(match.keys[block]);
      }
    }
  }
}

/// Claims in order of their blocks, none of them the issuer's own session.
bool get_claims(Reader& in, Match::State& match) {
  const std::size_t count = in.count(kMaxGrantClaims, kClaimBytes);
  std::size_t covered = 0;
  for (std::size_t i = 0; i < count; ++i) {
    Claim claim;
    wire::SessionProof proof;
    in.get(claim.first_block);
    in.get(claim.block_count);
    proof.decode(in);
    if (!in.ok() || !proof.grant || claim.first_block < covered) return false;
    covered = std::size_t{claim.first_block} + claim.block_count;
    if (covered > match.keys.size()) return false;
    claim.lookup = proof.grant;
    claim.granted = proof;
    match.claims.push_back(claim);
  }
  return in.ok();
}

bool get_replicas(Reader& in, Match::State& match, std::vector<PlacedReplica>& placed) {
  const std::size_t count = in.count(Match::kMaxGrantBytes / kReplicaBytes, kReplicaBytes);
  placed.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    PlacedReplica one;
    BlockKey key;
    in.get(one.block);
    in.get(one.part);
    in.get(one.replica.tier, kLastTier);
    in.get(one.replica.at);
    in.get(key);
    if (!in.ok() || one.block >= match.keys.size() || !match.claim_of(one.block)) return false;
    BlockKey& known = match.keys[one.block];
    if (known && known != key) return false;
    known = key;
    placed.push_back(one);
  }
  return in.ok();
}

}  // namespace

Result<std::vector<std::byte>> encode_grant(const Match::State& match,
                                            std::span<const wire::SessionProof> proofs) {
  std::vector<std::byte> bytes;
  if (match.replicas.size() > Match::kMaxGrantBytes / kReplicaBytes ||
      proofs.size() > kMaxGrantClaims) {
    return fail(Errc::out_of_capacity, "too many blocks for one grant");
  }
  Writer out(bytes);
  out.put(kGrantMagic);
  out.put(match.space);
  out.put(match.era);
  out.put(match.parts);
  out.put(static_cast<std::uint32_t>(match.keys.size()));
  out.put(static_cast<std::uint32_t>(match.prefix_blocks));
  out.put(static_cast<std::uint32_t>(proofs.size()));
  for (std::size_t i = 0; i < proofs.size(); ++i) {
    out.put(match.claims[i].first_block);
    out.put(match.claims[i].block_count);
    proofs[i].encode(out);
  }
  out.put(static_cast<std::uint32_t>(match.replicas.size()));
  put_replicas(out, match);
  out.put(checksum(bytes));
  if (bytes.size() > Match::kMaxGrantBytes) {
    return fail(Errc::out_of_capacity, "too many blocks for one grant");
  }
  return bytes;
}

Result<std::shared_ptr<Match::State>> decode_grant(std::span<const std::byte> bytes) {
  const auto corrupt = [] { return fail(Errc::corrupt, "these bytes are not a grant"); };
  if (bytes.size() > Match::kMaxGrantBytes || bytes.size() < kChecksumBytes) return corrupt();
  const std::span<const std::byte> body = bytes.first(bytes.size() - kChecksumBytes);
  Reader tail(bytes.last(kChecksumBytes));
  Checksum sum;
  tail.get(sum);
  if (sum != checksum(body)) return corrupt();

  Reader in(body);
  auto match = std::make_shared<Match::State>();
  std::uint32_t magic = 0;
  std::uint32_t block_count = 0;
  std::uint32_t prefix_blocks = 0;
  in.get(magic);
  in.get(match->space);
  in.get(match->era);
  in.get(match->parts);
  in.get(block_count);
  in.get(prefix_blocks);
  if (!in.ok() || magic != kGrantMagic || block_count > Match::State::kMaxBlocks ||
      prefix_blocks > block_count || match->parts == 0 || match->parts > wire::kMaxParts) {
    return corrupt();
  }
  match->keys.resize(block_count);
  match->prefix_blocks = prefix_blocks;
  std::vector<PlacedReplica> placed;
  if (!get_claims(in, *match) || !get_replicas(in, *match, placed)) return corrupt();
  if (!place_replicas(*match, std::move(placed))) return corrupt();
  match->there.resize(block_count);
  for (std::size_t block = 0; block < block_count; ++block) {
    bool whole = true;
    for (std::uint16_t part = 0; part < match->parts && whole; ++part) {
      whole = !match->replicas_of(block, part).empty();
    }
    match->there[block] = whole;
  }
  match->answered = match->there;
  return match;
}

}  // namespace membrain
