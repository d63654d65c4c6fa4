// Replicating: one member's part in bringing the root's blocks to every member of a group.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "cache/group/group_links.h"
#include "cache/group/group_tree.h"
#include "cache/group/together.h"
#include "cache/memory/device_lane.h"
#include "cache/memory/place.h"
#include "cache/memory/segments.h"
#include "membrain/client.h"
#include "membrain/result.h"
#include "transport/completion.h"
#include "transport/signal.h"
#include "transport/task.h"

namespace membrain {

struct ReplicateJob {
  std::uint64_t sequence = 0;
  std::uint32_t root = 0;
  std::vector<Place> places;          ///< of the blocks, all of one length
  std::shared_ptr<const void> owner;  ///< keeps what the places point to
  std::uint64_t block_bytes = 0;
  Checksum names;                  ///< of the blocks' hashes, in their order
  DeviceLane* lane = nullptr;      ///< of the GPU that the places are on; null: the host's memory
  cuda::RawEvent after = nullptr;  ///< nothing touches the places before it
  /// What may bring them to all at once, from GPU to GPU; null: the tree alone.
  Collective* collective = nullptr;
  TimePoint deadline;
};

/// Together first, if all members can; else, and if that fails, down the tree:
///
/// Blocks travel in chunks: some that make up kChunkBytes, or a larger one alone. The root hashes
/// them; every member receives, compares, and passes on what is right while the next chunk comes.
/// At most kWindow chunks are under way to a member. On a GPU each chunk has a staging slot, until
/// it has been passed on: a lane has at least one. It does not wait for a member that has not come,
/// who gets the blocks from the GPU's pages later.
///
/// A member is sent nothing but the offer before it says that it has come: what travels with its
/// message leaves the sender at once, so that no window would hold it back.
///
/// What a member could not have, those behind it are told of and do not wait for. At the deadline
/// nothing more begins; a second later the connections on which something still moves are closed.
///
/// Errors  `timed_out` if the root's offer did not come, `invalid_argument` if it is of other
///         blocks; else a report: for the root which blocks every member has, for a member which it
///         has itself.
/// Threads The data loop. Lives until `run` has ended.
class Replicating final : public GroupCall {
 public:
  static constexpr std::uint64_t kChunkBytes = std::uint64_t{1} << 20;
  static constexpr std::uint64_t kWindow = 4;
  static constexpr Duration kDrain = std::chrono::seconds(1);

  Replicating(GroupLinks& links, ReplicateJob job);
  Replicating(const Replicating&) = delete;
  Replicating& operator=(const Replicating&) = delete;

  Task<Result<TransferReport>> run();
  /// Nothing more begins; it ends as at its deadline.
  void cancel();

 private:
  using Bitmap = std::vector<std::uint8_t>;
  struct Child;
  /// Blocks on their way. With a slot its bytes are there, else in the places.
  struct Chunk {
    std::uint32_t first = 0;
    std::vector<wire::GroupBlock> blocks;
    std::optional<DeviceLane::Slot> slot;
    std::vector<Child*> later;  ///< get it from the places
    /// None of its blocks can be had.
    void spoil() noexcept {
      for (wire::GroupBlock& block : blocks) block.status = wire::ItemStatus::unavailable;
    }
  };
  /// One member that this one passes blocks on to.
  struct Child {
    Child(ReadyQueue& ready, std::uint32_t member)
        : rank(member), news(ready), window(ready, kWindow) {}
    std::uint32_t rank;
    PeerId peer;
    std::deque<std::shared_ptr<Chunk>> queue;
    Signal news;  ///< of the queue, of what it says, of its end
    CreditWindow window;
    bool here = false;         ///< it has come, and takes chunks
    bool from_places = false;  ///< it came late: no chunk of it has a slot before it is sent
    bool lost = false;         ///< or has not come in time
    bool done = false;
    Bitmap has;  ///< it and all behind it
  };

  bool on_offer(PeerId peer, const wire::GroupOffer& offer) override;
  bool on_blocks(PeerId peer, wire::GroupBlocks blocks, Payload payload) override;
  bool on_done(PeerId peer, const wire::GroupDone& done) override;
  bool on_propose(PeerId peer, const wire::GroupPropose& proposed) override;
  bool on_answer(PeerId peer, const wire::GroupAnswer& answer) override;
  bool on_go(PeerId peer, const wire::GroupGo& go) override;
  void on_peer_lost(PeerId peer) override;

  Task<> send_all();
  Task<> send_down();
  Task<> take_all();
  Task<> receive(std::shared_ptr<Chunk> chunk, Payload payload);
  Task<Result<>> land(Chunk& chunk, Payload payload);
  Task<> keep(Chunk& chunk);
  void open_children(wire::TreeShape shape);
  Task<> await_anyone();
  Task<Result<PeerId>> reach(std::uint32_t rank);
  Task<> feed(Child& child);
  Task<> send(Child& child, std::shared_ptr<Chunk> chunk);
  Task<Result<>> fill(Chunk& chunk);
  Task<Result<>> gather(Chunk& chunk);
  void pass_on(const std::shared_ptr<Chunk>& chunk);
  void pass_on_later(const Chunk& chunk);
  void give_up_rest();

  [[nodiscard]] std::uint32_t blocks() const noexcept {
    return static_cast<std::uint32_t>(job_.places.size());
  }
  [[nodiscard]] std::size_t pieces() const noexcept;
  [[nodiscard]] TogetherTerms terms() const noexcept;
  void count_together();
  [[nodiscard]] std::uint32_t best_chunk() const noexcept;
  [[nodiscard]] std::uint32_t most_in_slot() const noexcept;
  [[nodiscard]] bool meant(const wire::GroupOffer& offer) const noexcept;
  [[nodiscard]] bool late() const noexcept { return late_ || links_.loop().now() >= job_.deadline; }
  [[nodiscard]] DeviceLane::Stopped stopped() const {
    return [this] { return late(); };
  }
  [[nodiscard]] bool awaiting() const noexcept;
  [[nodiscard]] wire::GroupOffer offer() const;
  [[nodiscard]] std::vector<cuda::DevicePiece> device_pieces(const Chunk& chunk) const;
  /// All members behind this one have it.
  [[nodiscard]] bool behind_have(std::uint32_t block) const noexcept;
  [[nodiscard]] std::span<std::byte> in_slot(const Chunk& chunk, std::size_t i) const noexcept;
  [[nodiscard]] Checksum sum_of(const Chunk& chunk, std::size_t i) const noexcept;
  /// The bytes of those that are ok.
  void add_segments(const Chunk& chunk, SegmentList& segments) const;
  void count(std::span<const Segment> sent, PeerId to);
  void end_overdue();
  TransferReport report();

  GroupLinks& links_;
  ReplicateJob job_;
  wire::TreeShape shape_ = wire::TreeShape::chain;
  std::uint32_t chunk_blocks_ = 1;
  PeerId parent_;
  bool offered_ = false;
  bool other_blocks_ = false;  ///< the root means others
  bool parent_lost_ = false;
  bool late_ = false;
  bool all_passed_ = false;  ///< no chunk comes any more
  std::uint32_t receiving_ = 0;
  std::vector<ItemOutcome> outcomes_;
  std::vector<bool> told_;  ///< by block: a chunk with it has come, or it was given up
  std::uint32_t untold_;
  std::list<Child> children_;
  std::uint32_t feeding_ = 0;
  Signal news_;  ///< the root's offer, a chunk, a child that has ended, what members do together
  Together together_;
  Timer overdue_;
  TransferReport report_;
};

}  // namespace membrain
