// ShardSession: this client's life with one shard. Keeps it, and renews it after a loss.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/key.h"
#include "base/mac.h"
#include "cache/client/circuit.h"
#include "cache/client/pins.h"
#include "membrain/block.h"
#include "membrain/client.h"
#include "membrain/result.h"
#include "protocol/calls.h"
#include "protocol/messages.h"
#include "protocol/shard_map.h"
#include "transport/fabric.h"
#include "transport/signal.h"
#include "transport/task.h"

namespace membrain {

class ShardSession;

/// Told what the rest of the client must know of a session. Control loop.
class SessionListener {
 public:
  /// The session has begun; it shows its proof to nodes.
  virtual void on_here(const ShardSession& session) = 0;
  /// The shard's leader is gone; the last proof may still serve fetches.
  virtual void on_away(const ShardSession& session) = 0;
  /// The session's list of nodes is new.
  virtual void on_nodes(const ShardSession& session) = 0;

 protected:
  ~SessionListener() = default;
};

/// Who knows where shards are led. Control loop.
class LeaderFinder {
 public:
  /// As it was heard last; empty if it was not.
  [[nodiscard]] virtual Address known_leader(ShardId shard) const = 0;
  /// Asks servers, one after the other, `last` (if any) after the others. `unavailable` if nobody
  /// leads, or none answers.
  virtual Task<Result<Address>> find_leader(ShardId shard, Address last, TimePoint deadline) = 0;
  /// A connection to this server that happens to be open; none if there is none.
  virtual PeerId take_connection(const Address& server) = 0;
  /// Ends when the map is at least this new; `unavailable` if none such is to be had.
  virtual Task<Result<>> renew_map(std::uint32_t version, TimePoint deadline) = 0;
  /// Others may come to lead.
  [[nodiscard]] virtual bool several() const noexcept = 0;

 protected:
  ~LeaderFinder() = default;
};

/// One connection to the shard's leader: Hello, a heartbeat every third of the session's ttl, the
/// list of nodes with each heartbeat. When the connection is lost, requests fail at once with
/// `unavailable` until a reconnect has succeeded: Hello names the old session, namespaces are
/// opened again and held pins asserted again (Lookup by `all` under their old lookup ids) before
/// the session is here again. Pins that were released are unpinned in batches, one message a turn,
/// and resent until acknowledged.
///
/// Ownership  Borrows the fabric, the finder and the listener.
/// Threads    The control loop only.
class ShardSession final {
 public:
  ShardSession(Fabric& control, const ClientConfig& config, ShardId shard, KeyRange range,
               LeaderFinder& leaders, SessionListener& listener);
  ~ShardSession();
  ShardSession(const ShardSession&) = delete;
  ShardSession& operator=(const ShardSession&) = delete;

  /// The first connect. Nothing runs in the background before `keep`.
  Task<Result<>> start(TimePoint deadline);
  /// Lives on, whether it has begun or not.
  void keep();
  /// Gives all pins back (for at most kGoodbye), then closes. Once; ends when nothing runs.
  Task<> stop();

  [[nodiscard]] bool here() const noexcept { return circuit_.closed() && !stopping_; }
  [[nodiscard]] ShardId shard() const noexcept { return shard_; }
  [[nodiscard]] const KeyRange& range() const noexcept { return range_; }
  void set_range(const KeyRange& range) noexcept { range_ = range; }
  /// Begins with what that session has opened and holds: some of its keys are this shard's now.
  void inherit(const ShardSession& from);
  [[nodiscard]] const wire::SessionProof& proof() const noexcept { return proof_; }
  [[nodiscard]] SessionId id() const noexcept { return proof_.session; }
  [[nodiscard]] std::size_t max_keys() const noexcept { return max_keys_; }
  [[nodiscard]] PinRegistry& pins() noexcept { return pins_; }

  /// What no answer in time says of the server: little, where the time is but a moment.
  enum class Silence : std::uint8_t { is_doubted, is_nothing };
  /// Asks the shard. `unavailable` at once while it is away, and when it goes meanwhile.
  template <class Reply, class Request>
  Task<Result<Reply>> ask(Request request, TimePoint deadline,
                          Silence silence = Silence::is_doubted);

  /// Opens a namespace, now and after every reconnect.
  Task<Result<wire::NamespaceOpened>> open(wire::OpenNamespace request, TimePoint deadline);

  /// Opens it as soon as the server is here.
  void open_later(NamespaceId space, const wire::OpenNamespace& request);

  /// True if the last list of nodes has this life of this node.
  [[nodiscard]] bool knows(NodeId node, Incarnation incarnation) const noexcept;
  /// As the shard told them last.
  [[nodiscard]] const std::vector<wire::NodeEntry>& nodes() const noexcept { return nodes_; }
  /// Asks for the list of nodes.
  Task<> refresh_nodes(TimePoint deadline);

  /// Wakes whoever sends unpins.
  void pins_released() noexcept { unpin_signal_.raise(); }

  /// Whose connection it is.
  [[nodiscard]] bool is(PeerId peer) const noexcept { return peer_ && peer == peer_; }
  void on_message(PeerId peer, std::span<const std::byte> frame);
  void on_lost(PeerId peer);

  static constexpr Duration kGoodbye = std::chrono::seconds(1);

 private:
  Task<Result<>> connect(TimePoint deadline);
  Task<Result<>> connect_to(Address server, TimePoint deadline);
  Task<Result<>> introduce(TimePoint deadline);
  [[nodiscard]] TimePoint patience(TimePoint deadline) const noexcept;
  Task<Result<>> assert_again(TimePoint deadline);
  /// What this session does not know yet, because it was here again before `open_later`.
  Task<> open_untold();
  [[nodiscard]] std::vector<NamespaceId> untold() const;
  Task<Result<>> assert_pin(LookupId lookup, TimePoint deadline);
  Task<Result<>> fetch_nodes(TimePoint deadline);
  Task<> live();
  Task<> beat();
  Task<> unpin();
  Task<> close(PeerId peer);
  void lose(const char* why);
  /// An answer did not come: where another server may lead by now, a heartbeat finds out soon.
  void doubt();
  [[nodiscard]] wire::Header header() const noexcept;
  [[nodiscard]] Duration beat_every() const noexcept;

  Fabric& fabric_;
  Loop& loop_;
  const ClientConfig& config_;
  const ShardId shard_;
  KeyRange range_;
  LeaderFinder& leaders_;
  SessionListener& listener_;
  const Digest tenant_key_;
  Calls calls_;
  Circuit circuit_;
  PinRegistry pins_;
  PeerId peer_;     ///< of the session, or of the one being set up
  Address leader_;  ///< of that connection, or the last one
  Address silent_;  ///< the leader that did not answer at last; empty: there is none
  wire::SessionProof proof_;
  Duration ttl_{};
  std::size_t max_keys_ = 0;
  std::map<NamespaceId, wire::OpenNamespace> opened_;
  std::set<NamespaceId> told_;  ///< of these, in the present session
  std::vector<wire::NodeEntry> nodes_;
  std::unordered_map<NodeId, Incarnation> lives_;  ///< of these nodes
  Signal keep_signal_;
  Signal unpin_signal_;
  Signal stop_signal_;
  std::uint32_t running_ = 0;  ///< background coroutines
  bool doubted_ = false;
  Timer beat_is_lost_;  ///< armed by a doubt that finds a heartbeat unanswered
  bool beating_ = false;
  bool opening_ = false;  ///< something is untold, and nobody has tried yet
  bool stopping_ = false;
};

template <class Reply, class Request>
Task<Result<Reply>> ShardSession::ask(Request request, TimePoint deadline, Silence silence) {
  if (!here()) co_return fail(Errc::unavailable, "the server is away");
  const wire::Header head = header();
  const bool doubts = silence == Silence::is_doubted;
  Calls::Late late;  // a call may have much time, and another server lead soon
  if (doubts) late = [this] { doubt(); };
  Task<Result<Reply>> asked =
      calls_.call<Reply>(peer_, std::move(request), deadline, head, std::move(late));
  Result<Reply> reply = co_await asked;
  if (doubts && !reply && reply.error().code == Errc::timed_out) doubt();
  if (!reply && reply.error().code == Errc::peer_lost) {
    co_return fail(Errc::unavailable, "the server went away");
  }
  co_return std::move(reply);
}

}  // namespace membrain
