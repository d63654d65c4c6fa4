// NodeLinks: this client's connections to nodes, and who gets what arrives on them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "cache/client/lane_book.h"
#include "cache/client/placement.h"
#include "cache/client/source_choice.h"
#include "cache/client/transfer_scratch.h"
#include "membrain/result.h"
#include "protocol/calls.h"
#include "protocol/frame.h"
#include "protocol/messages.h"
#include "transport/fabric.h"
#include "transport/signal.h"
#include "transport/task.h"

namespace membrain {

/// One Fetch or Store under way on one connection: what `NodeLinks` hands messages to.
class Exchange {
 public:
  /// A frame with the exchange's op, from its peer. Its body is input from a stranger.
  virtual void on_frame(const wire::Frame& frame, Payload payload) = 0;
  /// The connection is gone, or is being closed. Receives and sends that were posted on it still
  /// finish their own completions.
  virtual void on_peer_lost() = 0;

 protected:
  ~Exchange() = default;
};

/// Connects on demand, once however many ask, and keeps connections. A connection that was lost or
/// could not be made is a failure of the lane, and is not made again while that is doubted or open.
///
/// Ownership  Borrows the fabric, whose receiver it is. Exchanges detach before they go.
/// Threads    The data loop only.
class NodeLinks final : public Receiver {
 public:
  NodeLinks(Fabric& data, std::string host, Duration connect_timeout);
  ~NodeLinks();
  NodeLinks(const NodeLinks&) = delete;
  NodeLinks& operator=(const NodeLinks&) = delete;

  /// The shard's list of nodes. One in a new life, or at a new address, loses its old connection.
  /// Nothing is held any more against such a one, nor against one that was dead or not listed, and
  /// is alive now.
  void update(const std::vector<wire::NodeEntry>& nodes);

  /// A node as a source of `bytes`: usable unless the shard calls it dead. One that the shard does
  /// not list (any more, or yet, after a restart) is worth a try.
  [[nodiscard]] SourceView source(NodeId node, std::uint64_t bytes) const noexcept;
  /// Another number for every operation: it spreads reads of the same block over its replicas.
  [[nodiscard]] std::uint64_t next_salt() noexcept { return salt_ += kSaltStep; }
  /// All nodes as places for new blocks: usable if the shard lists them alive, and their lanes are
  /// not open; doubted ones only if there are no others.
  [[nodiscard]] std::vector<NodeView> places() const;
  /// False if there is no node that could take a block.
  [[nodiscard]] bool any_place() const noexcept;

  /// The connection to a node, or why there is none. Nothing while it is being made: `signal` is
  /// raised then when that has changed.
  [[nodiscard]] std::optional<Result<PeerId>> reach(NodeId node, Signal& signal);
  /// `signal` waits no longer.
  void forget(NodeId node, const Signal& signal) noexcept;

  /// The connection to a node, if there is one now.
  [[nodiscard]] PeerId connected(NodeId node) const noexcept;

  void attach(OpId op, PeerId peer, Exchange& exchange);
  void detach(OpId op) noexcept { exchanges_.erase(op.value); }

  /// Closes a connection in the background: its exchanges are told, and every receive and send on
  /// it ends.
  void abandon(PeerId peer);

  /// The same for every connection over a lane ("rdma") whose hardware is down: their nodes count
  /// as failed at once, not after the time-outs of the hardware.
  void abandon_lane(std::string_view lane);

  /// Work that may go on after its operation was reported: `stop` waits for it.
  class Work {
   public:
    explicit Work(NodeLinks& links) noexcept : links_(links) { ++links_.running_; }
    Work(const Work&) = delete;
    Work& operator=(const Work&) = delete;
    ~Work() {
      --links_.running_;
      links_.stop_signal_.raise();
    }

   private:
    NodeLinks& links_;
  };

  /// Closes every connection. No operation may be under way.
  Task<> stop();

  [[nodiscard]] Fabric& fabric() noexcept { return fabric_; }
  [[nodiscard]] Loop& loop() noexcept { return fabric_.loop(); }
  [[nodiscard]] Calls& calls() noexcept { return calls_; }
  [[nodiscard]] TransferScratch& scratch() noexcept { return scratch_; }
  [[nodiscard]] LaneBook& lanes() noexcept { return lanes_; }

  void on_message(PeerId peer, std::span<const std::byte> frame, Payload payload) override;
  void on_lost(PeerId peer, const Error& why) override;

 private:
  struct Link {
    wire::NodeEntry entry;
    PeerId peer;
    bool listed = false;
    bool connecting = false;
    std::vector<Signal*> waiting;
  };
  struct Attached {
    PeerId peer;
    Exchange* exchange;
  };

  Task<> connect(NodeId node);
  Task<> close(PeerId peer);
  void lose(PeerId peer);
  void wake(Link& link) noexcept;
  /// Its lane may be asked for something.
  [[nodiscard]] bool open_for(NodeId node, const Link& link) const noexcept;
  [[nodiscard]] bool doubted(NodeId node) const noexcept;
  [[nodiscard]] bool takes_blocks(NodeId node, const Link& link) const noexcept;
  [[nodiscard]] bool same_host(const Link& link) const noexcept;

  static constexpr std::uint64_t kSaltStep = 0x9e3779b97f4a7c15;

  Fabric& fabric_;
  std::string host_;
  std::uint64_t salt_;  ///< begins elsewhere on each host
  Duration connect_timeout_;
  Calls calls_;
  TransferScratch scratch_;
  LaneBook lanes_;
  std::map<NodeId, Link> links_;
  std::unordered_map<std::uint64_t, NodeId> peers_;
  std::unordered_map<std::uint64_t, Attached> exchanges_;
  std::uint32_t running_ = 0;  ///< connects, closes and Work under way
  bool stopping_ = false;
  Signal stop_signal_;
};

}  // namespace membrain
