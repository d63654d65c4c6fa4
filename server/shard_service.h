// ShardService: a shard that listens. Turns messages into calls and answers into messages.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/mac.h"
#include "membrain/result.h"
#include "protocol/frame.h"
#include "protocol/messages.h"
#include "server/shard.h"
#include "server/shard_roster.h"
#include "server/shard_status.h"
#include "server/term.h"
#include "transport/fabric.h"
#include "transport/loop.h"
#include "transport/task.h"

namespace membrain {

struct ShardConfig {
  std::string secret;  ///< of the cluster; empty on an open, loopback one
  /// a client that is silent for longer loses its pins
  std::chrono::milliseconds session_ttl{10000};
  /// a node that is silent for longer leaves all answers
  std::chrono::milliseconds node_ttl{5000};
  std::size_t expected_blocks = 1 << 20;  ///< sizes the catalog's index; more is fine
  ShardId shard{0};
  SessionLimits limits;
  ReplicaRule replicas;  ///< of namespaces whose clients ask for nothing else
  CopyLimits copies;
  /// what is answered when somebody asks for the shards; null: that this one has everything
  std::shared_ptr<const ShardRoster> roster;
  /// Sessions' ids, which nobody may guess, and the seeds of hashes. The simulator's come from the
  /// schedule's seed.
  std::function<std::uint64_t()> random = random_u64;
};

/// Serves one shard on a fabric. Every frame is hostile until it is decoded, every request until
/// its sender has proved who it is: a client by `Hello`, a node by `RegisterNode`, both bound to
/// the connection. What is no frame closes the connection; what is not allowed is refused.
///
/// It serves while it leads the shard; before and between, requests are answered `unavailable`.
///
/// Ownership  The fabric is the caller's and outlives it, and so does a tenure while it leads. What
///            it does in the background are tasks of the fabric's loop: let these end (`stop`)
///            before the loop goes.
/// Threads    The loop's thread only.
class ShardService final : public Receiver {
 public:
  static constexpr std::size_t kMaxClears = 64;  ///< under way

  ShardService(Fabric& fabric, ShardConfig config);
  ~ShardService();
  ShardService(const ShardService&) = delete;
  ShardService& operator=(const ShardService&) = delete;

  /// Takes first contacts from now on.
  Result<> listen(const Address& address);
  /// Begins a term, with an empty catalog: nodes will report, and clients assert their pins.
  void lead(Term term, Tenure& tenure);
  /// Ends it: every connection is closed. `leader` is where the next term may be, if that is known.
  void follow(const Address& leader);
  /// Takes nothing more and closes every connection; ends when all are quiet.
  Task<> stop();

  /// Where it listens, with the real port.
  [[nodiscard]] const Address& address() const noexcept { return address_; }
  [[nodiscard]] bool leads() const noexcept { return shard_ != nullptr; }
  /// While it leads.
  [[nodiscard]] const Shard& shard() const noexcept { return *shard_; }
  [[nodiscard]] ShardStatus status() const;
  [[nodiscard]] Loop& loop() noexcept { return fabric_.loop(); }

  void on_message(PeerId peer, std::span<const std::byte> frame, Payload payload) override;
  void on_lost(PeerId peer, const Error& why) override;

 private:
  /// What a connection has proved to be.
  struct Peer {
    SessionId session;
    SessionId resumed;  ///< by the Hello that opened the session
    NodeId node;
    Incarnation incarnation;
  };

  void dispatch(PeerId peer, const wire::Frame& frame);
  void dispatch_client(PeerId peer, const wire::Frame& frame);
  void dispatch_node(PeerId peer, const wire::Frame& frame);
  template <class Request, class Serve>
  void serve(PeerId peer, const wire::Frame& frame, Serve serve);
  template <class Request, class Method>
  void serve_client(PeerId peer, const wire::Frame& frame, Method method);
  template <class Request, class Method>
  void serve_node(PeerId peer, const wire::Frame& frame, Method method);
  template <class Message>
  void send(PeerId peer, const wire::Frame& to, const Message& message);
  void refuse(PeerId peer, const wire::Frame& to, const Error& why);

  void tell_shards(PeerId peer, const wire::Frame& frame);
  Result<wire::Welcome> hello(PeerId peer, const wire::Hello& hello);
  void clear(PeerId peer, const wire::Frame& frame);
  Task<> begin_era(PeerId peer, wire::Header header, NamespaceId space, Era era);
  Result<wire::Accepted> register_node(PeerId peer, const wire::RegisterNode& request);
  [[nodiscard]] Result<> admit(PeerId peer, const wire::Frame& frame) const;
  void send_free(const wire::FreeSlots& message);
  void send_untold_frees();
  void send_copy_orders();
  void tick();
  void share_copies();
  void close_all();
  void forget(PeerId peer);
  void expel(PeerId peer, const Error& why);
  Task<> close(PeerId peer);

  Fabric& fabric_;
  ShardConfig config_;
  Address address_;
  Address leader_;                ///< as far as it is known, while it does not lead
  Tenure* tenure_ = nullptr;      ///< while it leads
  std::unique_ptr<Shard> shard_;  ///< while it leads
  Timer tick_timer_;
  bool stopping_ = false;
  std::size_t closing_ = 0;
  std::size_t clearing_ = 0;
  std::unordered_map<std::uint64_t, Peer> peers_;  ///< by PeerId: those that proved something
  std::unordered_map<NodeId, PeerId> node_peers_;  ///< the latest connection of each node
  std::vector<std::byte> frame_;                   ///< being written; kept for its memory
};

}  // namespace membrain
