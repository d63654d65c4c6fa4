// Store: blocks from the caller's memory to the nodes that keep them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/key.h"
#include "cache/client/cancel_token.h"
#include "cache/client/node_links.h"
#include "cache/client/part_probe.h"
#include "cache/client/store_exchange.h"
#include "cache/client/store_list.h"
#include "cache/client/writable_arena.h"
#include "cache/memory/place.h"
#include "membrain/client.h"
#include "membrain/result.h"
#include "transport/completion.h"
#include "transport/task.h"

namespace membrain {

/// A node's arena to write to, or null: its blocks are sent then.
using WritableOf = std::function<Task<std::shared_ptr<const WritableArena>>(NodeId node)>;

/// What is stored, and within which terms.
struct StoreJob {
  OpenedNamespace space;
  std::shared_ptr<const KeyMaker> keys;
  StoreList list;
  TransferOptions options;
  std::shared_ptr<CancelToken> cancel;  ///< may be null
  wire::SessionProof proof;
  TimePoint deadline;
  AskParts ask_parts;
  std::uint64_t probe_bytes = 0;
  WritableOf writable;  ///< may be empty
};

/// One store under way. If it is of `probe_bytes` or more, the shard is asked first what it knows,
/// for at most kProbePatience, while the first blocks are hashed: what is there is a duplicate and
/// does not move. A block of kAloneBytes or more travels alone, smaller ones in batches of up to
/// kBatchBytes; kWindow messages are under way to a node at once. A node that cannot be reached,
/// or is lost on the way, is replaced by another one, once.
///
/// Blocks that lie in a GPU's memory go from there, each alone, to nodes whose connection allows
/// it; for another node they are `unavailable`.
///
/// A node whose arena can be written to (`writable`) lends slots for up to kInPlaceBytes at a time;
/// the blocks are copied into them, hashed on the way, and sealed. What the node does not lend, or
/// takes for lost, is sent.
///
/// Errors  `invalid_argument` before anything moves, `cancelled` when it was taken back; else a
///         report. An item is reported when its memory is the caller's again.
/// Threads The data loop only. Lives until `run` has ended.
class Storing {
 public:
  static constexpr std::uint64_t kAloneBytes = 128 * 1024;
  static constexpr std::uint64_t kBatchBytes = 1024 * 1024;
  static constexpr std::uint64_t kInPlaceBytes = 4 * 1024 * 1024;
  static constexpr std::size_t kWindow = 8;
  static constexpr Duration kProbePatience = std::chrono::milliseconds(5);
  /// hashed in one turn of the loop: about 30 us, in which nothing else goes on
  static constexpr std::uint64_t kHashSlice = 1024 * 1024;

  Storing(NodeLinks& links, StoreJob job);

  Task<Result<TransferReport>> run();

 private:
  using Batch = std::vector<std::size_t>;  ///< items of one message
  /// Batches for one node that wait for their turn. Shared by the node's workers.
  struct Lane {
    NodeId node;
    std::shared_ptr<const WritableArena> arena;  ///< to write to; may be null
    std::deque<Batch> batches;
  };
  /// How blocks get to a node.
  enum class Way : std::uint8_t { sent, in_place };
  /// A block and the slot that it is written to.
  struct Placed {
    std::size_t item;
    wire::SlotRef at;
  };

  [[nodiscard]] bool late() const noexcept { return links_.loop().now() >= job_.deadline; }
  Result<> plan();
  /// Asks, and ends what is there; nothing if that does not pay.
  Task<> skip_known();
  [[nodiscard]] std::vector<wire::PartName> parts() const;
  /// Makes `sums_[item]`.
  Task<> hash(std::size_t item);
  void launch(const std::vector<std::size_t>& items, NodeId avoid);
  Task<> open_lane(NodeId node, std::vector<std::size_t> items);
  Task<> work(std::shared_ptr<Lane> lane);
  /// Yields what has to be sent.
  Task<Batch> store_in_place(std::shared_ptr<const WritableArena> arena, Batch batch);
  Task<> reserve(std::shared_ptr<const WritableArena> arena, const Batch& batch,
                 std::vector<Placed>& placed, Batch& rest);
  Task<> fill(const WritableArena& arena, const std::vector<Placed>& placed);
  Task<> copy(std::size_t item, const WritableArena& arena, std::span<std::byte> into);
  Task<> seal(std::shared_ptr<const WritableArena> arena, const std::vector<Placed>& placed,
              Batch& rest);
  Task<StoreAnswer> exchange_with(StoreExchange& exchange);
  Task<> store_batch(NodeId node, Batch batch);
  Task<> hash_batch(const Batch& batch);
  void settle(NodeId node, const Batch& batch, const StoreAnswer& answer);
  [[nodiscard]] std::deque<Batch> batches_of(const std::vector<std::size_t>& items, Way way) const;
  void add_to(SegmentList& payload, std::size_t item) const;
  [[nodiscard]] wire::Store message_of(const Batch& batch) const;
  [[nodiscard]] BlockKey key_of(std::size_t item) const;
  [[nodiscard]] std::uint32_t length(std::size_t item) const noexcept {  ///< bytes
    return static_cast<std::uint32_t>(places_[item].size_bytes());
  }
  void cancel();
  void end(std::size_t item, const ItemOutcome& outcome);

  NodeLinks& links_;
  StoreJob job_;
  std::vector<Place> places_;                  ///< by item; in `job_`
  std::vector<std::optional<Checksum>> sums_;  ///< by item
  std::vector<bool> moved_;                    ///< by item: it is on its second node
  std::vector<bool> known_;                    ///< by item: it is there already
  std::uint64_t hashed_bytes_ = 0;             ///< in this turn
  CreditWindow hashing_;                       ///< one batch at a time, so that the first goes soon
  std::list<StoreExchange*> active_;
  Completion workers_;
  TransferReport report_;
  bool cancelled_ = false;
};

/// What a node's word on an item means to the caller.
[[nodiscard]] ItemOutcome outcome_of(wire::ItemStatus status) noexcept;

/// What every store of this list would refuse: `invalid_argument`.
[[nodiscard]] Result<> check_store(const StoreList& list) noexcept;

/// `Storing(links, job).run()`, owned.
[[nodiscard]] Task<Result<TransferReport>> store_blocks(NodeLinks& links, StoreJob job);

}  // namespace membrain
