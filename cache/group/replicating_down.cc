// The part of a replication that passes blocks on, down the tree.
#include <algorithm>
#include <chrono>
#include <utility>

#include "cache/group/replicating.h"

namespace membrain {

using wire::ItemStatus;

namespace {
constexpr Duration kReachTurn = std::chrono::seconds(3);
}  // namespace

void Replicating::open_children(wire::TreeShape shape) {
  shape_ = shape;
  for (const std::uint32_t rank : children_of(links_.rank(), job_.root, links_.size(), shape)) {
    Child& child = children_.emplace_back(links_.loop().ready(), rank);
    ++feeding_;
    links_.loop().spawn(feed(child));
  }
}

/// Who came late goes on to get all from the places: with slots queued behind blocks that have none
/// yet, each could wait for the other.
void Replicating::pass_on(const std::shared_ptr<Chunk>& chunk) {
  for (Child& child : children_) {
    if (child.lost) continue;
    child.from_places = child.from_places || (chunk->slot && !child.here);
    if (chunk->slot && child.from_places) {
      chunk->later.push_back(&child);
      continue;
    }
    child.queue.push_back(chunk);
    child.news.raise();
  }
}

/// Its bytes are in the places: those that had not come need its slot no more.
void Replicating::pass_on_later(const Chunk& chunk) {
  for (Child* const child : chunk.later) {
    if (child->lost) continue;
    auto again = std::make_shared<Chunk>();
    again->first = chunk.first;
    again->blocks = chunk.blocks;
    child->queue.push_back(std::move(again));
    child->news.raise();
  }
}

/// What has not come will not: those behind are told, so that they do not wait.
void Replicating::give_up_rest() {
  const std::uint32_t each = chunk_blocks_;
  for (std::uint32_t first = 0; first < blocks() && !children_.empty(); first += each) {
    if (told_[first]) continue;
    auto chunk = std::make_shared<Chunk>();
    chunk->first = first;
    chunk->blocks.assign(std::min(each, blocks() - first), {ItemStatus::cancelled, {}});
    pass_on(chunk);
  }
  all_passed_ = true;
  for (Child& child : children_) child.news.raise();
}

wire::GroupOffer Replicating::offer() const {
  return {job_.sequence, job_.root, shape_, blocks(), chunk_blocks_, job_.block_bytes, job_.names};
}

/// In turns: a call that is taken back need not wait until its deadline for a member that is
/// stopped.
Task<Result<PeerId>> Replicating::reach(std::uint32_t rank) {
  while (true) {
    const TimePoint turn = std::min(job_.deadline, links_.loop().now() + kReachTurn);
    Task<Result<PeerId>> reaching = links_.reach(rank, turn);
    Result<PeerId> peer = co_await reaching;
    if (peer || peer.error().code != Errc::timed_out || late()) co_return peer;
  }
}

Task<> Replicating::feed(Child& child) {
  Task<Result<PeerId>> reaching = reach(child.rank);
  const Result<PeerId> peer = co_await reaching;
  if (peer) {
    child.peer = *peer;
    links_.send(child.peer, offer());
  } else {
    child.lost = true;
  }
  while (!child.lost && !child.here && !late()) co_await child.news;
  if (!child.here) child.lost = true;
  while (!child.lost && !(all_passed_ && child.queue.empty())) {
    if (child.queue.empty()) {
      co_await child.news;
      continue;
    }
    std::shared_ptr<Chunk> chunk = std::move(child.queue.front());
    child.queue.pop_front();
    co_await child.window.take(1);
    links_.loop().spawn(send(child, std::move(chunk)));
  }
  child.queue.clear();
  co_await child.window.take(kWindow);  // all has been sent, or has failed
  child.window.give(kWindow);
  while (!child.lost && !child.done && !late()) co_await child.news;
  --feeding_;
  news_.raise();
}

Task<> Replicating::send(Child& child, std::shared_ptr<Chunk> chunk) {
  const std::shared_ptr<Chunk> held = std::move(chunk);
  const bool any = std::ranges::count(held->blocks, ItemStatus::ok, &wire::GroupBlock::status) != 0;
  if (job_.lane != nullptr && !held->slot && any) {
    Task<Result<>> gathering = gather(*held);
    const Result<> gathered = co_await gathering;
    if (!gathered) held->spoil();
  }
  wire::GroupBlocks message;
  message.sequence = job_.sequence;
  message.first = held->first;
  message.blocks = held->blocks;
  SegmentList segments;
  add_segments(*held, segments);
  const std::span<const Segment> payload = segments.to_send();
  if (payload.empty()) {
    links_.send(child.peer, message);
  } else if (!child.lost) {
    std::vector<std::byte> frame;
    wire::write_frame(frame, wire::Header{}, message);
    Completion sent(links_.loop().ready());
    links_.fabric().send(child.peer, frame, payload, sent);
    const Result<> outcome = co_await sent;
    if (!outcome) child.lost = true;
    if (outcome && links_.rank() == job_.root) count(payload, child.peer);
  }
  child.window.give(1);
  child.news.raise();
}

bool Replicating::on_done(PeerId peer, const wire::GroupDone& done) {
  const auto child = std::ranges::find(children_, peer, &Child::peer);
  if (child == children_.end()) return false;
  const bool come = done.bitmap.empty();  // no more than that
  if (!come && done.bitmap.size() != (blocks() + 7) / 8) return false;
  child->here = true;
  if (!come || blocks() == 0) {
    child->has = done.bitmap;
    child->done = true;
  }
  child->news.raise();
  news_.raise();
  return true;
}

bool Replicating::on_propose(PeerId peer, const wire::GroupPropose& proposed) {
  return together_.on_propose(peer, proposed);
}

bool Replicating::on_answer(PeerId peer, const wire::GroupAnswer& answer) {
  return together_.on_answer(peer, answer);
}

bool Replicating::on_go(PeerId peer, const wire::GroupGo& go) {
  return together_.on_go(peer, go);
}

void Replicating::on_peer_lost(PeerId peer) {
  together_.on_peer_lost(peer);
  if (offered_ && peer == parent_) parent_lost_ = true;
  for (Child& child : children_) {
    if (child.peer != peer) continue;
    child.lost = true;
    child.news.raise();
  }
  news_.raise();
}

}  // namespace membrain
