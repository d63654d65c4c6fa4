// Grants, as Client::adopt takes them: as they came and with their checksum put right.
#include <memory>
#include <utility>
#include <vector>

#include "cache/client/grant.h"
#include "tests/fuzz/repair.h"
#include "tests/fuzz/target.h"

namespace membrain::fuzz {
namespace {

using State = std::shared_ptr<Match::State>;

std::vector<std::byte> written(const Match::State& match) {
  std::vector<wire::SessionProof> proofs;
  for (const Claim& claim : match.claims) proofs.push_back(claim.granted.value());
  Result<std::vector<std::byte>> bytes = encode_grant(match, proofs);
  check(bytes.has_value(), "what was adopted cannot be granted");
  return std::move(*bytes);
}

constexpr std::size_t kMostCells = 4096;  ///< that are looked at one by one

/// Every place that a fetch would look at.
void look_around(const Match::State& match) {
  check(match.prefix_blocks <= match.keys.size() && match.there.size() == match.keys.size(),
        "a match does not fit itself");
  if (match.keys.size() * match.parts > kMostCells) return;
  for (std::size_t block = 0; block < match.keys.size(); ++block) {
    for (std::uint16_t part = 0; part < match.parts; ++part) {
      const auto replicas = match.replicas_of(block, part);
      check(replicas.size() <= wire::kMaxReplicas, "more replicas than a part may have");
      check(!match.there[block] || !replicas.empty(), "a block that is nowhere is there");
      check(replicas.empty() || match.claim_of(block).has_value(), "a block without a proof");
    }
  }
}

void adopt(std::span<const std::byte> bytes) {
  const Result<State> match = decode_grant(bytes);
  if (!match) return;
  look_around(**match);
  const std::vector<std::byte> once = written(**match);
  check(once.size() <= bytes.size(), "a grant is larger than what it was read from");
  const Result<State> again = decode_grant(once);
  check(again.has_value(), "what was granted cannot be adopted");
  check(written(**again) == once, "a grant changed between reading and writing");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> bytes = bytes_of(data, size);
  adopt(bytes);
  adopt(with_checksum(bytes));
  return 0;
}

}  // namespace membrain::fuzz
