// ShardSession: this client's life with the shard. Keeps it, and renews it after a loss.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
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
#include "protocol/servers.h"
#include "transport/fabric.h"
#include "transport/signal.h"
#include "transport/task.h"

namespace membrain {

/// Told what the rest of the client must know of the session. Control loop.
class SessionListener {
 public:
  /// A session has begun; it shows this proof to nodes.
  virtual void on_here(const wire::SessionProof& proof) = 0;
  /// The server is gone; the last proof may still serve fetches.
  virtual void on_away() = 0;
  virtual void on_nodes(const std::vector<wire::NodeEntry>& nodes) = 0;

 protected:
  ~SessionListener() = default;
};

/// One connection to the shard: Hello, a heartbeat every third of the session's ttl, the list of
/// nodes with each heartbeat. When the connection is lost, requests fail at once with `unavailable`
/// until a reconnect has succeeded: Hello names the old session, namespaces are opened again and
/// held pins asserted again (Lookup by `all` under their old lookup ids) before the session is here
/// again. Pins that were released are unpinned in batches, one message a turn, and resent until
/// acknowledged.
///
/// Ownership  Borrows the fabric, whose receiver it is, and the listener.
/// Threads    The control loop only.
class ShardSession final : public Receiver {
 public:
  ShardSession(Fabric& control, const ClientConfig& config, SessionListener& listener);
  ~ShardSession();
  ShardSession(const ShardSession&) = delete;
  ShardSession& operator=(const ShardSession&) = delete;

  /// The first connect. Its failure is final: nothing runs in the background then.
  Task<Result<>> start();
  /// Gives all pins back (for at most kGoodbye), then closes. Once; ends when nothing runs.
  Task<> stop();

  [[nodiscard]] bool here() const noexcept { return circuit_.closed() && !stopping_; }
  [[nodiscard]] SessionId id() const noexcept { return proof_.session; }
  [[nodiscard]] std::size_t max_keys() const noexcept { return max_keys_; }
  [[nodiscard]] LookupId next_lookup() noexcept { return LookupId{next_lookup_++}; }
  [[nodiscard]] PinRegistry& pins() noexcept { return pins_; }
  [[nodiscard]] TimePoint now() const noexcept { return loop_.now(); }
  [[nodiscard]] const Digest& tenant_key() const noexcept { return tenant_key_; }

  /// Asks the shard. `unavailable` at once while it is away, and when it goes meanwhile.
  template <class Reply, class Request>
  Task<Result<Reply>> ask(Request request, TimePoint deadline);

  /// Opens a namespace, now and after every reconnect.
  Task<Result<wire::NamespaceOpened>> open(wire::OpenNamespace request, TimePoint deadline);

  /// True if the last list of nodes has this life of this node.
  [[nodiscard]] bool knows(NodeId node, Incarnation incarnation) const noexcept;
  /// Asks for the list of nodes.
  Task<> refresh_nodes(TimePoint deadline);

  /// Wakes whoever sends unpins.
  void pins_released() noexcept { unpin_signal_.raise(); }

  void on_message(PeerId peer, std::span<const std::byte> frame, Payload payload) override;
  void on_lost(PeerId peer, const Error& why) override;

  static constexpr Duration kGoodbye = std::chrono::seconds(1);

 private:
  Task<Result<>> connect(TimePoint deadline);
  Task<Result<>> connect_to(Address server, TimePoint deadline);
  Task<Result<>> introduce(TimePoint deadline);
  Task<Result<>> assert_again(TimePoint deadline);
  Task<Result<>> fetch_nodes(TimePoint deadline);
  Task<> keep();
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
  SessionListener& listener_;
  const Digest tenant_key_;
  Servers servers_;
  Calls calls_;
  Circuit circuit_;
  PinRegistry pins_;
  PeerId peer_;  ///< of the session, or of the one being set up
  wire::SessionProof proof_;
  Duration ttl_{};
  std::size_t max_keys_ = 0;
  std::uint64_t next_lookup_ = 1;
  std::map<NamespaceId, wire::OpenNamespace> opened_;
  std::map<NodeId, Incarnation> nodes_;
  Signal keep_signal_;
  Signal unpin_signal_;
  Signal stop_signal_;
  std::uint32_t running_ = 0;  ///< background coroutines
  bool doubted_ = false;
  bool stopping_ = false;
};

template <class Reply, class Request>
Task<Result<Reply>> ShardSession::ask(Request request, TimePoint deadline) {
  if (!here()) co_return fail(Errc::unavailable, "the server is away");
  const wire::Header head = header();
  Task<Result<Reply>> asked = calls_.call<Reply>(peer_, std::move(request), deadline, head);
  Result<Reply> reply = co_await asked;
  if (!reply && reply.error().code == Errc::timed_out) doubt();
  if (!reply && reply.error().code == Errc::peer_lost) {
    co_return fail(Errc::unavailable, "the server went away");
  }
  co_return std::move(reply);
}

}  // namespace membrain
