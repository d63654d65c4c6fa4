#include "cache/group/replicating.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/checksum.h"
#include "transport/next_turn.h"

namespace membrain {

using wire::ItemStatus;

Replicating::Replicating(GroupLinks& links, ReplicateJob job)
    : links_(links),
      job_(std::move(job)),
      outcomes_(job_.places.size(), ItemOutcome{.why = Errc::timed_out}),
      told_(job_.places.size()),
      untold_(static_cast<std::uint32_t>(job_.places.size())),
      news_(links.loop().ready()),
      together_(links, job_.lane == nullptr ? nullptr : job_.collective, terms(), job_.places,
                news_),
      overdue_(links.loop(), [this] { end_overdue(); }) {}

Task<Result<TransferReport>> Replicating::run() {
  const bool root = links_.rank() == job_.root;
  Timer at_deadline(links_.loop(), [this] { cancel(); });
  at_deadline.arm(job_.deadline);
  Result<> ready;
  if (job_.after != nullptr) {
    Task<Result<>> reaching = job_.lane->reached(job_.after, job_.deadline, stopped());
    ready = co_await reaching;
  }
  if (!ready) {
    overdue_.cancel();
    links_.detach(job_.sequence);
    co_return fail(ready.error());
  }
  links_.attach(job_.sequence, *this);
  Task<> moving = root ? send_all() : take_all();
  co_await moving;
  links_.detach(job_.sequence);
  overdue_.cancel();
  if (!root && !offered_ && together_.blocks_here() == 0) {
    co_return fail(Errc::timed_out, "the root's blocks were not offered");
  }
  if (other_blocks_) co_return fail(Errc::invalid_argument, "the root means other blocks");
  co_return report();
}

/// Wakes whoever waits for what will not begin any more.
void Replicating::cancel() {
  if (std::exchange(late_, true)) return;
  overdue_.arm(links_.loop().now() + kDrain);
  if (job_.lane != nullptr) job_.lane->stir();
  together_.cancel();
  for (Child& child : children_) child.news.raise();
  news_.raise();
}

/// What still moves a second after the deadline moves no more once its connection is closed.
void Replicating::end_overdue() {
  if (receiving_ != 0 && !parent_lost_) links_.abandon(parent_);
  std::vector<PeerId> open;
  for (const Child& child : children_) {
    if (!child.lost && !child.window.idle()) open.push_back(child.peer);
  }
  for (const PeerId peer : open) links_.abandon(peer);
}

void Replicating::count(std::span<const Segment> sent, PeerId to) {
  std::uint64_t bytes = 0;
  for (const Segment& segment : sent) bytes += segment.size;
  report_.bytes += bytes;
  report_.lane_bytes[std::string(links_.fabric().lane(to))] += bytes;
}

TransferReport Replicating::report() {
  report_.items = std::move(outcomes_);
  return std::move(report_);
}

/// Of the GPU's, that a block takes.
std::size_t Replicating::pieces() const noexcept {
  std::size_t pieces = 0;
  if (job_.places.empty()) return pieces;
  job_.places.front().for_each_piece([&pieces](const std::byte*, std::size_t size) {
    pieces += cuda::ChunkTable::chunks_of(size);
  });
  return pieces;
}

TogetherTerms Replicating::terms() const noexcept {
  return {job_.sequence, job_.root, job_.block_bytes, job_.names, job_.deadline, pieces()};
}

/// What has come (or gone) at once.
void Replicating::count_together() {
  const std::uint64_t bytes = together_.blocks_here() * job_.block_bytes;
  if (bytes == 0) return;
  report_.bytes += bytes;
  report_.lane_bytes[std::string(job_.collective->name())] += bytes;
}

/// Blocks that a staging slot and one kernel take at once; 0 if not even one.
std::uint32_t Replicating::most_in_slot() const noexcept {
  if (job_.lane == nullptr || job_.places.empty()) return wire::kMaxChunkBlocks;
  const std::uint64_t by_bytes = job_.lane->slot_bytes() / job_.block_bytes;
  const std::uint64_t by_pieces = DeviceLane::kMaxChunks / std::max<std::size_t>(pieces(), 1);
  return static_cast<std::uint32_t>(
      std::min({by_bytes, by_pieces, std::uint64_t{wire::kMaxChunkBlocks}}));
}

std::uint32_t Replicating::best_chunk() const noexcept {
  const auto fit = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(kChunkBytes / job_.block_bytes, most_in_slot()));
  return std::max(fit, 1U);
}

// ---- the root

Task<> Replicating::send_all() {
  Task<bool> leading = together_.lead();
  const bool all = co_await leading;
  count_together();
  if (all) {
    std::ranges::fill(outcomes_, ItemOutcome{.ok = true});
    co_return;
  }
  Task<> sending = send_down();
  co_await sending;
}

Task<> Replicating::send_down() {
  const std::uint32_t each = chunk_blocks_ = best_chunk();
  open_children(shape_for(links_.size(), (blocks() + each - 1) / each));
  if (job_.lane != nullptr) {
    Task<> awaiting = await_anyone();
    co_await awaiting;
  }
  Result<> ready;
  for (std::uint32_t first = 0; first < blocks() && ready && !late(); first += each) {
    auto chunk = std::make_shared<Chunk>();
    chunk->first = first;
    chunk->blocks.resize(std::min(each, blocks() - first));
    Task<Result<>> filling = fill(*chunk);
    ready = co_await filling;
    if (!ready) break;
    pass_on(chunk);
    pass_on_later(*chunk);
    co_await next_turn(links_.loop().ready());
  }
  give_up_rest();
  while (feeding_ != 0) co_await news_;
  for (std::uint32_t block = 0; block < blocks(); ++block) {
    const Errc why = !ready ? ready.error().code : late() ? Errc::timed_out : Errc::peer_lost;
    outcomes_[block] = behind_have(block) ? ItemOutcome{.ok = true} : ItemOutcome{.why = why};
  }
}

/// Staging slots are for others as well: none is taken before there is somebody to send it to.
Task<> Replicating::await_anyone() {
  const auto here = [](const Child& child) { return child.here; };
  while (!late() && feeding_ != 0 && std::ranges::none_of(children_, here)) co_await news_;
}

/// The root's own bytes, and their checksums.
Task<Result<>> Replicating::fill(Chunk& chunk) {
  if (job_.lane != nullptr) {
    Task<Result<>> gathering = gather(chunk);
    const Result<> landed = co_await gathering;
    if (!landed) co_return fail(landed.error());
  }
  for (std::size_t i = 0; i < chunk.blocks.size(); ++i) {
    chunk.blocks[i].checksum = sum_of(chunk, i);
    told_[chunk.first + i] = true;
  }
  co_return Result<>{};
}

/// From the GPU's pages into a slot.
Task<Result<>> Replicating::gather(Chunk& chunk) {
  Task<Result<DeviceLane::Slot>> taking = job_.lane->take(job_.deadline, stopped());
  Result<DeviceLane::Slot> slot = co_await taking;
  if (!slot) co_return fail(slot.error());
  chunk.slot.emplace(std::move(*slot));
  const std::vector<cuda::DevicePiece> pieces = device_pieces(chunk);
  Task<Result<>> gathering = job_.lane->gather(*chunk.slot, pieces);
  co_return co_await gathering;
}

/// Where the bytes of a chunk's block are: in its slot, or the place.
std::span<std::byte> Replicating::in_slot(const Chunk& chunk, std::size_t i) const noexcept {
  const auto bytes = static_cast<std::size_t>(job_.block_bytes);
  return chunk.slot->host().subspan(i * bytes, bytes);
}

Checksum Replicating::sum_of(const Chunk& chunk, std::size_t i) const noexcept {
  if (chunk.slot) return checksum(in_slot(chunk, i));
  return checksum_of(job_.places[chunk.first + i]);
}

void Replicating::add_segments(const Chunk& chunk, SegmentList& segments) const {
  for (std::size_t i = 0; i < chunk.blocks.size(); ++i) {
    if (chunk.blocks[i].status != ItemStatus::ok) continue;
    if (chunk.slot) {
      const std::span<std::byte> bytes = in_slot(chunk, i);
      segments.add(bytes.data(), bytes.size());
    } else {
      segments.add(job_.places[chunk.first + i]);
    }
  }
}

// ---- members

bool Replicating::on_offer(PeerId peer, const wire::GroupOffer& offered) {
  if (links_.rank() == job_.root) return false;
  if (offered_) return peer == parent_;  // repeated
  if (together_.running()) return true;  // the root could not wait: this member is not to be had
  parent_ = peer;
  offered_ = true;
  other_blocks_ = !meant(offered);
  chunk_blocks_ = other_blocks_ ? best_chunk() : offered.chunk_blocks;
  links_.send(parent_, wire::GroupDone{job_.sequence, {}});
  open_children(offered.shape);  // now: a chunk may land before this member goes on
  news_.raise();
  return true;
}

bool Replicating::meant(const wire::GroupOffer& offer) const noexcept {
  const std::uint64_t chunk_bytes = std::uint64_t{offer.chunk_blocks} * offer.block_bytes;
  return offer.root == job_.root && offer.blocks == blocks() && offer.names == job_.names &&
         offer.block_bytes == job_.block_bytes && offer.chunk_blocks >= 1 &&
         offer.chunk_blocks <= most_in_slot() &&
         chunk_bytes <= std::max(kChunkBytes, offer.block_bytes);
}

bool Replicating::on_blocks(PeerId peer, wire::GroupBlocks arrived, Payload payload) {
  // What is not for us, came before its offer (which only the simulator does) or too late is let
  // go: a receive that began now could outlive the call.
  if (!offered_ || other_blocks_ || peer != parent_ || late()) return true;
  if (arrived.first >= blocks() || arrived.first % chunk_blocks_ != 0) return false;
  if (arrived.blocks.size() != std::min(chunk_blocks_, blocks() - arrived.first)) return false;
  if (told_[arrived.first]) return true;  // repeated
  const auto ok = std::ranges::count(arrived.blocks, ItemStatus::ok, &wire::GroupBlock::status);
  if (payload.size() != static_cast<std::uint64_t>(ok) * job_.block_bytes) return false;
  std::fill_n(told_.begin() + arrived.first, arrived.blocks.size(), true);
  untold_ -= static_cast<std::uint32_t>(arrived.blocks.size());
  auto chunk = std::make_shared<Chunk>();
  chunk->first = arrived.first;
  chunk->blocks = std::move(arrived.blocks);
  ++receiving_;
  links_.loop().spawn(receive(std::move(chunk), std::move(payload)));
  return true;
}

bool Replicating::awaiting() const noexcept {
  return !late() && !parent_lost_ && offered_ && untold_ != 0 && !other_blocks_;
}

Task<> Replicating::take_all() {
  while (!late() && !offered_ && !together_.finished()) {
    if (together_.called()) {
      Task<> following = together_.follow();
      co_await following;
    } else {
      co_await news_;
    }
  }
  count_together();
  while (awaiting() || receiving_ != 0) co_await news_;
  give_up_rest();
  while (feeding_ != 0) co_await news_;
  for (std::uint32_t block = 0; block < blocks(); ++block) {
    if (together_.has(block)) outcomes_[block] = {.ok = true};
  }
  if (!offered_ || parent_lost_) co_return;
  wire::GroupDone done;
  done.sequence = job_.sequence;
  done.bitmap.assign((blocks() + 7) / 8, 0);
  for (std::uint32_t block = 0; block < blocks(); ++block) {
    if (outcomes_[block].ok && behind_have(block)) {
      done.bitmap[block / 8] = static_cast<std::uint8_t>(done.bitmap[block / 8] | 1U << block % 8);
    }
  }
  links_.send(parent_, done);
}

bool Replicating::behind_have(std::uint32_t block) const noexcept {
  return std::ranges::all_of(children_, [block](const Child& child) {
    return child.done && (child.has[block / 8] >> (block % 8) & 1U) != 0;
  });
}

Task<> Replicating::receive(std::shared_ptr<Chunk> chunk, Payload payload) {
  const std::shared_ptr<Chunk> held = std::move(chunk);
  const std::uint64_t bytes = payload.size();
  Result<> landed;
  if (bytes != 0) {
    Task<Result<>> landing = land(*held, std::move(payload));
    landed = co_await landing;
  }
  if (!landed) held->spoil();
  pass_on(held);
  Task<> keeping = keep(*held);
  co_await keeping;
  pass_on_later(*held);
  --receiving_;
  news_.raise();
}

/// The bytes of a chunk to where they belong (on a GPU: into its slot), compared with their
/// checksums.
Task<Result<>> Replicating::land(Chunk& chunk, Payload payload) {
  Payload arrived = std::move(payload);
  SegmentList segments;
  if (job_.lane != nullptr) {
    Task<Result<DeviceLane::Slot>> taking = job_.lane->take(job_.deadline, stopped());
    Result<DeviceLane::Slot> slot = co_await taking;
    if (!slot) co_return fail(slot.error());
    chunk.slot.emplace(std::move(*slot));
  }
  add_segments(chunk, segments);
  const std::string lane(links_.fabric().lane(parent_));
  const std::uint64_t bytes = arrived.size();
  Completion received(links_.loop().ready());
  links_.fabric().receive(std::move(arrived), segments.to_receive(), received);
  const Result<> outcome = co_await received;
  if (!outcome) co_return outcome;
  report_.bytes += bytes;
  report_.lane_bytes[lane] += bytes;
  segments.scatter();
  for (std::size_t i = 0; i < chunk.blocks.size(); ++i) {
    wire::GroupBlock& block = chunk.blocks[i];
    if (block.status == ItemStatus::ok && sum_of(chunk, i) != block.checksum) {
      block.status = ItemStatus::corrupt;
    }
  }
  co_return Result<>{};
}

/// What came is the caller's, on a GPU once it has been copied there.
Task<> Replicating::keep(Chunk& chunk) {
  Result<> kept;
  const std::vector<cuda::DevicePiece> pieces =
      chunk.slot ? device_pieces(chunk) : std::vector<cuda::DevicePiece>{};
  const bool any =
      std::ranges::any_of(pieces, [](const auto& piece) { return piece.address != 0; });
  if (any) {
    Task<Result<>> scattering = job_.lane->scatter(*chunk.slot, pieces);
    kept = co_await scattering;
  }
  for (std::size_t i = 0; i < chunk.blocks.size(); ++i) {
    const ItemStatus status = chunk.blocks[i].status;
    ItemOutcome& outcome = outcomes_[chunk.first + i];
    outcome.ok = status == ItemStatus::ok && kept.has_value();
    outcome.why = kept ? wire::why_missing(status) : kept.error().code;
  }
  if (!kept) chunk.spoil();
}

std::vector<cuda::DevicePiece> Replicating::device_pieces(const Chunk& chunk) const {
  std::vector<cuda::DevicePiece> pieces;
  for (std::size_t i = 0; i < chunk.blocks.size(); ++i) {
    if (chunk.blocks[i].status != ItemStatus::ok) {
      pieces.push_back({0, job_.block_bytes});
      continue;
    }
    job_.places[chunk.first + i].for_each_piece([&](const std::byte* data, std::size_t size) {
      pieces.push_back({reinterpret_cast<cuda::Address>(data), size});
    });
  }
  return pieces;
}

}  // namespace membrain
