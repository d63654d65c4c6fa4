#include <algorithm>
#include <utility>

#include "cache/client/match_state.h"

namespace membrain {

std::span<const FoundReplica> Match::State::replicas_of(std::size_t block,
                                                        std::uint16_t part) const noexcept {
  if (block >= keys.size() || part >= parts || first.empty()) return {};
  const std::size_t cell = block * parts + part;
  return std::span(replicas).subspan(first[cell], first[cell + 1] - first[cell]);
}

std::optional<std::size_t> Match::State::claim_of(std::size_t block) const noexcept {
  for (std::size_t i = 0; i < claims.size(); ++i) {
    if (block >= claims[i].first_block && block - claims[i].first_block < claims[i].block_count) {
      return i;
    }
  }
  return std::nullopt;
}

void Match::State::release() noexcept {
  if (!desk || released.exchange(true)) return;
  std::vector<LookupId> lookups;
  lookups.reserve(claims.size());
  for (const Claim& claim : claims) lookups.push_back(claim.lookup);
  desk->release(lookups);
}

bool place_replicas(Match::State& state, std::vector<PlacedReplica> placed) {
  for (const PlacedReplica& one : placed) {
    if (one.block >= state.keys.size() || one.part >= state.parts) return false;
    if (!one.replica.at.node || one.replica.at.length == 0) return false;
  }
  const auto cell_of = [&](const PlacedReplica& one) {
    return std::size_t{one.block} * state.parts + one.part;
  };
  const auto before = [&](const auto& a, const auto& b) { return cell_of(a) < cell_of(b); };
  if (!std::is_sorted(placed.begin(), placed.end(), before)) {  // as shards answer, it is
    std::stable_sort(placed.begin(), placed.end(), before);
  }
  const std::size_t cells = state.keys.size() * state.parts;
  state.first.assign(cells + 1, 0);
  state.replicas.clear();
  state.replicas.reserve(placed.size());
  std::size_t next = 0;
  for (std::size_t cell = 0; cell < cells; ++cell) {
    const std::size_t begin = state.replicas.size();
    state.first[cell] = static_cast<std::uint32_t>(begin);
    for (; next < placed.size() && cell_of(placed[next]) == cell; ++next) {
      const FoundReplica& replica = placed[next].replica;
      const std::size_t count = state.replicas.size() - begin;
      if (count == wire::kMaxReplicas) continue;
      if (count > 0 && state.replicas[begin].at.length != replica.at.length) continue;
      state.replicas.push_back(replica);
    }
  }
  state.first[cells] = static_cast<std::uint32_t>(state.replicas.size());
  return true;
}

Match::Match() noexcept = default;
Match::Match(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}
Match::Match(Match&& other) noexcept : state_(std::move(other.state_)) {}
Match& Match::operator=(Match&& other) noexcept {
  if (this != &other) {
    release();
    state_ = std::move(other.state_);
  }
  return *this;
}
Match::~Match() {
  release();
}

std::size_t Match::block_count() const noexcept {
  return state_ ? state_->keys.size() : 0;
}

std::size_t Match::prefix_blocks() const noexcept {
  return state_ ? state_->prefix_blocks : 0;
}

bool Match::has(std::size_t block) const noexcept {
  return state_ && block < state_->there.size() && state_->there[block];
}

bool Match::answered(std::size_t block) const noexcept {
  return state_ && block < state_->answered.size() && state_->answered[block];
}

std::size_t Match::part_bytes(std::size_t block, std::uint16_t part) const noexcept {
  if (!state_) return 0;
  const std::span<const FoundReplica> replicas = state_->replicas_of(block, part);
  return replicas.empty() ? 0 : replicas.front().at.length;
}

bool Match::pinned() const noexcept {
  return state_ && state_->desk && !state_->released;
}

void Match::release() noexcept {
  if (state_) state_->release();
}

}  // namespace membrain
