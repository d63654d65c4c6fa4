#include "cache/group/together.h"

#include <algorithm>
#include <utility>

namespace membrain {

using wire::GroupStep;
using wire::GroupVote;

namespace {

constexpr wire::CollectiveId kNone{};

std::vector<std::uint8_t> bitmap_of(const std::vector<bool>& right) {
  std::vector<std::uint8_t> bitmap((right.size() + 7) / 8);
  for (std::size_t i = 0; i < right.size(); ++i) {
    if (right[i]) bitmap[i / 8] = static_cast<std::uint8_t>(bitmap[i / 8] | 1U << i % 8);
  }
  return bitmap;
}

}  // namespace

Together::Together(GroupLinks& links, Collective* collective, const TogetherTerms& terms,
                   const std::vector<Place>& places, Signal& news)
    : links_(links),
      collective_(collective),
      terms_(terms),
      places_(places),
      news_(news),
      right_(places.size()) {}

std::uint64_t Together::blocks_here() const noexcept {
  return static_cast<std::uint64_t>(std::ranges::count(right_, true));
}

void Together::cancel() noexcept {
  cancelled_ = true;
  if (running_) collective_->stop();
}

Task<> Together::run(const wire::CollectiveId& id, std::uint32_t chunk_blocks, TimePoint deadline) {
  CollectiveJob job;
  job.id = id;
  job.root = terms_.root;
  job.chunk_blocks = chunk_blocks;
  job.block_bytes = terms_.block_bytes;
  job.places = &places_;
  job.deadline = deadline;
  running_ = true;
  Task<std::vector<bool>> running = collective_->run(job);
  right_ = co_await running;
  running_ = false;
}

// ---- the root

Together::Other* Together::find(PeerId peer) noexcept {
  const auto found =
      std::ranges::find_if(others_, [peer](const Other& other) { return other.peer == peer; });
  return found == others_.end() ? nullptr : &*found;
}

bool Together::any(GroupVote vote) const noexcept {
  return std::ranges::any_of(others_, [vote](const Other& other) { return other.vote == vote; });
}

Task<bool> Together::lead() {
  if (collective_ == nullptr) co_return false;
  const std::uint32_t most = collective_->most_blocks(terms_.block_bytes, terms_.pieces);
  if (most == 0) co_return false;
  const TimePoint now = links_.loop().now();
  half_time_ = now + (terms_.deadline - now) / 2;
  Timer waking(links_.loop(), [this] { news_.raise(); });
  waking.arm(half_time_);
  const std::uint32_t chunk_blocks = std::min(most, std::max(blocks(), 1U));
  Task<bool> asking = all_can(chunk_blocks);
  if (!co_await asking) co_return false;
  wire::CollectiveId id = collective_->current();
  if (id == kNone || any(GroupVote::can)) {
    Task<wire::CollectiveId> making = collective_->make_id(half_time_);
    id = co_await making;
  }
  if (id == kNone || over(half_time_)) co_return false;
  tell(GroupStep::begin, id, half_time_ - links_.loop().now());
  Task<> running = run(id, chunk_blocks, half_time_);
  co_await running;
  const bool sent = blocks_here() == blocks();
  if (!sent) tell(GroupStep::give_up, id, {});
  waking.arm(half_time_ + kDrain);
  const auto ended = [](const Other& other) { return other.vote == GroupVote::ended; };
  while (!over(half_time_ + kDrain) && !std::ranges::all_of(others_, ended)) co_await news_;
  const bool all = sent && std::ranges::all_of(others_, &Other::has_all);
  tell(all ? GroupStep::finish : GroupStep::give_up, id, {});
  co_return all;
}

/// Asks all of them; one that cannot, or does not answer in time, is enough for a no.
Task<bool> Together::all_can(std::uint32_t chunk_blocks) {
  const wire::GroupPropose proposal{terms_.sequence,       terms_.root,        blocks(),
                                    chunk_blocks,          terms_.block_bytes, terms_.names,
                                    collective_->current()};
  for (std::uint32_t rank = 0; rank < links_.size(); ++rank) {
    if (rank == links_.rank()) continue;
    Other& other = others_.emplace_back();
    other.rank = rank;
    ++asking_;
    links_.loop().spawn(ask(other, proposal));
  }
  const auto open = [](const Other& other) { return !other.vote.has_value(); };
  while (!over(half_time_) && !any(GroupVote::cannot) && std::ranges::any_of(others_, open)) {
    co_await news_;
  }
  while (asking_ != 0) co_await news_;
  co_return std::ranges::none_of(others_, open) && !any(GroupVote::cannot);
}

Task<> Together::ask(Other& other, wire::GroupPropose proposal) {
  const wire::GroupPropose message = std::move(proposal);
  Task<Result<PeerId>> reaching = links_.reach(other.rank, half_time_);
  const Result<PeerId> peer = co_await reaching;
  if (peer) {
    other.peer = *peer;
    links_.send(*peer, message);
  } else {
    other.vote = GroupVote::cannot;
  }
  --asking_;
  news_.raise();
}

void Together::tell(GroupStep step, const wire::CollectiveId& id, Duration budget) {
  wire::GroupGo go;
  go.sequence = terms_.sequence;
  go.step = step;
  go.id = id;
  go.budget_ms = static_cast<std::uint32_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(budget).count());
  for (const Other& other : others_) {
    if (other.peer && other.vote != GroupVote::cannot) links_.send(*other.peer, go);
  }
}

bool Together::on_answer(PeerId peer, const wire::GroupAnswer& answer) {
  Other* const other = find(peer);
  if (other == nullptr) return false;
  if (other->vote == GroupVote::ended || other->vote == GroupVote::cannot) return true;  // repeated
  if (answer.vote == GroupVote::ended) {
    const std::vector<std::uint8_t> all = bitmap_of(std::vector<bool>(blocks(), true));
    other->has_all = answer.bitmap == all;
    if (!other->has_all && running_) collective_->stop();  // it would wait for this one in vain
  }
  other->vote = answer.vote;
  news_.raise();
  return true;
}

// ---- a member

bool Together::on_propose(PeerId peer, const wire::GroupPropose& proposed) {
  if (links_.rank() == terms_.root) return false;
  if (leader_ && leader_ != peer) return true;
  leader_ = peer;
  chunk_blocks_ = proposed.chunk_blocks;
  const bool meant = proposed.root == terms_.root && proposed.blocks == blocks() &&
                     proposed.names == terms_.names && proposed.block_bytes == terms_.block_bytes;
  const std::uint32_t most =
      collective_ == nullptr ? 0 : collective_->most_blocks(terms_.block_bytes, terms_.pieces);
  wire::GroupAnswer answer;
  answer.sequence = terms_.sequence;
  if (meant && chunk_blocks_ != 0 && chunk_blocks_ <= most) {
    const bool has = proposed.id != kNone && proposed.id == collective_->current();
    answer.vote = has ? GroupVote::has : GroupVote::can;
  }
  if (answer.vote == GroupVote::cannot) begun_ = true;  // whatever the root says
  links_.send(peer, answer);
  return true;
}

bool Together::on_go(PeerId peer, const wire::GroupGo& go) {
  if (leader_ != peer) return true;
  switch (go.step) {
    case GroupStep::begin:
      if (!call_) call_ = go;
      break;
    case GroupStep::give_up:
      begun_ = true;
      if (running_) collective_->stop();
      break;
    case GroupStep::finish:
      finished_ = begun_;
      break;
  }
  news_.raise();
  return true;
}

Task<> Together::follow() {
  begun_ = true;
  const TimePoint budget =
      links_.loop().now() + std::chrono::milliseconds(std::uint64_t{call_->budget_ms});
  Task<> running = run(call_->id, chunk_blocks_, std::min(budget, terms_.deadline));
  co_await running;
  wire::GroupAnswer answer;
  answer.sequence = terms_.sequence;
  answer.vote = GroupVote::ended;
  answer.bitmap = bitmap_of(right_);
  links_.send(*leader_, answer);
}

// ---- either

void Together::on_peer_lost(PeerId peer) {
  if (leader_ == peer) {
    if (running_) collective_->stop();
    finished_ = begun_ && !running_ && blocks_here() == blocks();
    news_.raise();
  }
  if (Other* const other = find(peer)) {
    other->vote = GroupVote::cannot;
    other->has_all = false;
    if (running_) collective_->stop();
    news_.raise();
  }
}

}  // namespace membrain
