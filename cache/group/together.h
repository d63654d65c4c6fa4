// Together: the members of a group agree to bring the root's blocks to all of them at once, and do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "cache/group/collective.h"
#include "cache/group/group_links.h"
#include "cache/memory/place.h"
#include "protocol/group_messages.h"
#include "transport/signal.h"
#include "transport/task.h"

namespace membrain {

/// What members call for together.
struct TogetherTerms {
  std::uint64_t sequence = 0;
  std::uint32_t root = 0;
  std::uint64_t block_bytes = 0;
  Checksum names;
  TimePoint deadline;
  std::size_t pieces = 0;  ///< of the GPU's, that a block takes here
};

/// The root asks every member whether it can; if all can, it says when to begin, and with which
/// communicator; each says what it has then. Whatever does not work costs at most half of the time
/// that there is: the rest is the tree's.
///
/// Threads    The data loop. Nothing of it runs when it goes.
class Together {
 public:
  static constexpr Duration kDrain = std::chrono::milliseconds(500);

  /// `news` is raised for whoever awaits what a member does here. Without a collective, the answer
  /// is always no.
  Together(GroupLinks& links, Collective* collective, const TogetherTerms& terms,
           const std::vector<Place>& places, Signal& news);

  /// The root's part. True: all have all.
  Task<bool> lead();
  /// A member's part, once `called`: ends when it has told the root what it has.
  [[nodiscard]] bool called() const noexcept { return call_.has_value() && !begun_; }
  Task<> follow();
  /// Nothing is awaited any more: all have all.
  [[nodiscard]] bool finished() const noexcept { return finished_; }
  /// It is not over yet: nothing else may touch the places.
  [[nodiscard]] bool running() const noexcept { return running_; }
  /// A block is here, whole and compared.
  [[nodiscard]] bool has(std::uint32_t block) const noexcept {
    return block < right_.size() && right_[block];
  }
  [[nodiscard]] std::uint64_t blocks_here() const noexcept;
  void cancel() noexcept;

  [[nodiscard]] bool on_propose(PeerId peer, const wire::GroupPropose& proposed);
  [[nodiscard]] bool on_answer(PeerId peer, const wire::GroupAnswer& answer);
  [[nodiscard]] bool on_go(PeerId peer, const wire::GroupGo& go);
  void on_peer_lost(PeerId peer);

 private:
  /// A member, as the root sees it.
  struct Other {
    std::uint32_t rank = 0;
    std::optional<PeerId> peer;
    std::optional<wire::GroupVote> vote;
    bool has_all = false;
  };

  [[nodiscard]] std::uint32_t blocks() const noexcept {
    return static_cast<std::uint32_t>(places_.size());
  }
  [[nodiscard]] bool over(TimePoint at) const noexcept {
    return cancelled_ || links_.loop().now() >= at;
  }
  Task<> ask(Other& other, wire::GroupPropose proposal);
  Task<bool> all_can(std::uint32_t chunk_blocks);
  Task<> begin(wire::CollectiveId id, std::uint32_t chunk_blocks);
  Task<> run(const wire::CollectiveId& id, std::uint32_t chunk_blocks, TimePoint deadline);
  void tell(wire::GroupStep step, const wire::CollectiveId& id, Duration budget);
  [[nodiscard]] Other* find(PeerId peer) noexcept;
  [[nodiscard]] bool any(wire::GroupVote vote) const noexcept;

  GroupLinks& links_;
  Collective* const collective_;
  const TogetherTerms terms_;
  const std::vector<Place>& places_;
  Signal& news_;
  std::vector<bool> right_;
  bool cancelled_ = false;
  bool running_ = false;

  // The root's.
  std::list<Other> others_;
  std::size_t asking_ = 0;
  TimePoint half_time_;

  // A member's.
  std::optional<PeerId> leader_;
  std::uint32_t chunk_blocks_ = 0;
  std::optional<wire::GroupGo> call_;
  bool begun_ = false;
  bool finished_ = false;
};

}  // namespace membrain
