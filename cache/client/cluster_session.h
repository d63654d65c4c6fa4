// ClusterSession: this client's life with all shards of the cluster.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/mac.h"
#include "cache/client/session.h"
#include "membrain/client.h"
#include "membrain/result.h"
#include "protocol/calls.h"
#include "protocol/messages.h"
#include "protocol/servers.h"
#include "protocol/shard_map.h"
#include "transport/fabric.h"
#include "transport/task.h"

namespace membrain {

/// Told what the rest of the client must know of the cluster. Control loop.
class ClusterListener {
 public:
  /// Some shard is here; nodes are shown this proof.
  virtual void on_here(const wire::SessionProof& proof) = 0;
  /// No shard is; the last proof may still serve fetches.
  virtual void on_away() = 0;
  /// The nodes of all shards.
  virtual void on_nodes(const std::vector<wire::NodeEntry>& nodes) = 0;

 protected:
  ~ClusterListener() = default;
};

/// A session with each shard, found by asking any server which shards there are and who leads them.
/// What concerns one shard fails with it alone: the blocks of a shard that is away are misses, the
/// others are found.
///
/// The map is followed as sessions meet it: a leader whose term goes by a later map says so, and
/// nobody but the leader of a shard's next term has other keys than before. A shard that came by a
/// split begins with what this client opened and holds at the one that it came from.
///
/// Ownership  Borrows the fabric, whose receiver it is, and the listener.
/// Threads    The control loop only.
class ClusterSession final : public Receiver, private SessionListener, private LeaderFinder {
 public:
  ClusterSession(Fabric& control, const ClientConfig& config, ClusterListener& listener);
  ~ClusterSession();
  ClusterSession(const ClusterSession&) = delete;
  ClusterSession& operator=(const ClusterSession&) = delete;

  /// Connects to every shard; one of them is enough. If it fails nothing runs in the background.
  Task<Result<>> start();
  /// Gives all pins back (for at most ShardSession::kGoodbye), then closes. Once.
  Task<> stop();

  /// Some shard is here.
  [[nodiscard]] bool here() const noexcept;
  [[nodiscard]] const Digest& tenant_key() const noexcept { return tenant_key_; }
  [[nodiscard]] Loop& loop() noexcept { return loop_; }
  [[nodiscard]] LookupId next_lookup() noexcept { return LookupId{next_lookup_++}; }
  /// Keys that fit a message to any shard.
  [[nodiscard]] std::size_t max_keys() const noexcept;

  [[nodiscard]] const ShardMap& map() const noexcept { return map_; }
  /// By their place in the map.
  [[nodiscard]] ShardSession& session(std::size_t index) noexcept { return *places_[index]; }

  /// Opens the namespace at every shard that is here, and at others when they come. Shards in which
  /// a clear was left unfinished catch up.
  Task<Result<wire::NamespaceOpened>> open(wire::OpenNamespace request, TimePoint deadline);
  /// A new era, in all shards; fails if one does not answer, and can be asked again then.
  Task<Result<wire::Cleared>> clear(wire::Clear request, TimePoint deadline);
  Task<Result<wire::ProbedParts>> probe_parts(wire::ProbeParts request, TimePoint deadline);
  /// A proof for another process, by the first shard that pins some of this lookup.
  Task<Result<wire::Granted>> grant(LookupId lookup, std::uint32_t valid_ms, TimePoint deadline);
  /// Of all shards that are here, added up.
  Task<Result<std::map<std::string, std::uint64_t>>> stats(TimePoint deadline);

  /// Nobody needs what this lookup pins.
  void release(LookupId lookup);
  /// True if some shard's last list of nodes has this life of this node.
  [[nodiscard]] bool knows(NodeId node, Incarnation incarnation) const noexcept;
  /// Asks for the lists of nodes.
  Task<> refresh_nodes(TimePoint deadline);
  /// Somebody said that the map is not what it was: asks for it, in the background.
  void doubt_map();

  void on_message(PeerId peer, std::span<const std::byte> frame, Payload payload) override;
  void on_lost(PeerId peer, const Error& why) override;

 private:
  struct Front {
    Address address;
    PeerId peer;
  };

  void on_here(const ShardSession& session) override;
  void on_away(const ShardSession& session) override;
  void on_nodes(const ShardSession& session) override;
  [[nodiscard]] Address known_leader(ShardId shard) const override;
  Task<Result<Address>> find_leader(ShardId shard, Address last, TimePoint deadline) override;
  PeerId take_connection(const Address& server) override;
  Task<Result<>> renew_map(std::uint32_t version, TimePoint deadline) override;
  [[nodiscard]] bool several() const noexcept override {
    return servers_.count() > 1 || map_.count() > 1;
  }

  /// Asks until a server answers of whom `enough` is true, or all were asked.
  template <class Enough>
  Task<Result<>> ask_servers(TimePoint deadline, Enough enough);
  Task<Result<wire::ShardList>> ask_server(Address server, TimePoint deadline);
  Result<> take(const wire::ShardList& list);
  void adopt(const ShardMap& map);
  /// Runs `task` for each shard at once; ends when all have.
  template <class Make>
  Task<> for_each_shard(Make make);
  Task<Result<>> catch_up(ShardSession& session, NamespaceId space, Era from, Era to,
                          TimePoint deadline);
  [[nodiscard]] const ShardSession* proved() const noexcept;
  [[nodiscard]] std::vector<wire::NodeEntry> all_nodes() const;
  Task<> close(PeerId peer);
  Task<> renew_in_background();

  Fabric& fabric_;
  Loop& loop_;
  const ClientConfig& config_;
  ClusterListener& listener_;
  const Digest tenant_key_;
  Servers servers_;
  Calls calls_;  ///< to servers whoever they lead
  ShardMap map_;
  std::map<ShardId, std::unique_ptr<ShardSession>> sessions_;
  std::vector<ShardSession*> places_;  ///< by the map's order
  std::map<ShardId, Address> leaders_;
  std::optional<Front> spare_;
  std::vector<PeerId> fronts_;  ///< being asked
  ShardId proof_of_{};          ///< whose proof nodes are shown
  std::uint64_t next_lookup_ = 1;
  std::uint32_t running_ = 0;
  Signal stop_signal_;
  bool told_here_ = false;
  bool living_ = false;  ///< sessions live on by themselves
  bool doubting_ = false;
  bool stopping_ = false;
};

}  // namespace membrain
