// StoreExchange: one message of a store, its payload if it has one, and the answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "cache/client/node_links.h"
#include "cache/client/writable_arena.h"
#include "cache/memory/segments.h"
#include "membrain/result.h"
#include "protocol/messages.h"
#include "transport/completion.h"
#include "transport/fabric.h"
#include "transport/signal.h"
#include "transport/task.h"

namespace membrain {

/// What a node is asked: to keep a payload, to lend slots, or to keep what is in them.
using StoreRequest = std::variant<wire::Store, wire::ReserveSlots, wire::SealSlots>;

/// How it ended. Its memory is the caller's again.
struct StoreAnswer {
  Result<> outcome;                        ///< why there are no statuses
  std::vector<wire::ItemStatus> statuses;  ///< one per item, if `outcome`
  wire::ReservedSlots reserved;            ///< to ReserveSlots, likewise
  std::string_view lane;
};

/// Connects if need be, sends, awaits `Stored` (or `ReservedSlots`). Never sends twice. Ends when
/// the answer is there, or there will be none, *and* the payload's memory is the caller's again: at
/// the deadline, or on `stop`, a send that is still under way has kDrain more, then the connection
/// is closed and the send awaited. Where the node's lane is open it ends at once (`peer_lost`), but
/// for a SealSlots: what was written must be told.
///
/// Threads  The data loop only. The exchange outlives `run`.
class StoreExchange final : public Exchange {
 public:
  /// With the closing that may follow, an operation ends within a second after its deadline.
  static constexpr Duration kDrain = std::chrono::milliseconds(800);
  /// A node that had this long and did not answer has failed.
  static constexpr Duration kFairChance = std::chrono::seconds(1);

  /// `payload` borrows the caller's memory.
  StoreExchange(NodeLinks& links, NodeId node, wire::Store message, SegmentList payload,
                TimePoint deadline);
  /// What is lent begins to be written in `arena` when the answer comes, before anything else does.
  StoreExchange(NodeLinks& links, std::shared_ptr<const WritableArena> arena,
                wire::ReserveSlots message, TimePoint deadline);
  StoreExchange(NodeLinks& links, NodeId node, wire::SealSlots message, TimePoint deadline);
  ~StoreExchange() = default;

  Task<StoreAnswer> run();
  /// Takes it back: fails with `why` unless it was faster.
  void stop(Errc why);

  void on_frame(const wire::Frame& frame, Payload payload) override;
  void on_peer_lost() override;

 private:
  StoreExchange(NodeLinks& links, NodeId node, StoreRequest message, TimePoint deadline);
  void enter();
  void try_to_begin();
  void begin(PeerId peer);
  Task<> await_sent(std::vector<std::byte> frame);
  void give_up(Errc why, std::string_view context);
  void close_if_hung();
  void take_stored(const wire::Frame& frame);
  void take_reserved(const wire::Frame& frame);
  [[nodiscard]] std::size_t item_count() const noexcept;
  [[nodiscard]] bool ended() const noexcept { return answered_ && !sending_; }

  NodeLinks& links_;
  Fabric& fabric_;
  Loop& loop_;
  NodeId node_;
  StoreRequest message_;
  SegmentList payload_;
  std::shared_ptr<const WritableArena> arena_;  ///< of a ReserveSlots
  TimePoint deadline_;
  TimePoint entered_{};
  Breaker::Pass pass_;
  OpId op_;
  PeerId peer_;
  StoreAnswer answer_;
  Signal signal_;
  Timer timer_;
  TimePoint drained_by_{};
  bool answered_ = false;  ///< `answer_` stands
  bool sending_ = false;
  bool stopped_ = false;
  bool closing_ = false;
};

}  // namespace membrain
