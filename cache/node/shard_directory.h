// Shard directory: which shards there are and who leads them, as the servers say.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "cache/node/link_config.h"
#include "membrain/result.h"
#include "protocol/calls.h"
#include "protocol/servers.h"
#include "protocol/shard_map.h"
#include "protocol/shard_messages.h"
#include "transport/completion.h"
#include "transport/fabric.h"
#include "transport/task.h"

namespace membrain {

/// Asks one of the servers of `LinkConfig::server`, on a connection for that question alone. One
/// question at a time: whoever asks meanwhile gets its answer.
///
/// A map never goes back to an earlier version. A list that is none (gaps, two shards of one name,
/// another map of the version that is known) counts as no answer: the next server is asked.
///
/// Ownership  Fabric and configuration outlive it. Destroy it when it is `idle`.
/// Threads    The control loop's; the owner of the fabric's `Receiver` hands frames in.
class ShardDirectory {
 public:
  using Changed = std::function<void(const ShardMap&)>;

  /// `changed` is called with every newer map.
  ShardDirectory(Fabric& fabric, const LinkConfig& config, Changed changed);
  ~ShardDirectory();

  /// After the configuration is complete.
  void configure();
  /// Asks each server in turn until one answers. `elsewhere`: what the last one said was of no use,
  /// so another one is asked first. `last`, if it is one of them, is not asked first.
  /// `unavailable` if nobody answers.
  Task<Result<>> ask(bool elsewhere, Address last = {});
  /// Where the shard is led, asked anew; if nobody answers, where it was. `unavailable` if that is
  /// not known.
  Task<Result<Address>> find_leader(ShardId shard, bool elsewhere, Address last);
  /// Asks until this version of the map, or a later one, is known. `unavailable` at the deadline.
  Task<Result<>> reach(std::uint32_t version, TimePoint deadline);
  /// Ends the question that is under way; later ones are `cancelled`.
  void stop();
  [[nodiscard]] bool idle() const noexcept { return !asking_ && closing_ == 0; }

  /// None before the first answer.
  [[nodiscard]] const std::optional<ShardMap>& map() const noexcept { return map_; }
  [[nodiscard]] std::size_t server_count() const noexcept { return servers_.count(); }
  /// Between two attempts: shorter where several servers take over from each other.
  [[nodiscard]] Duration backoff(std::uint32_t failures) const noexcept;
  /// Until when to wait for a connection that is begun now.
  [[nodiscard]] TimePoint connect_deadline() const noexcept;
  /// The same for a leader, if `silent` was silent the last time.
  [[nodiscard]] TimePoint connect_deadline(const Address& leader,
                                           const Address& silent) const noexcept;

  [[nodiscard]] bool speaks_with(PeerId peer) const noexcept { return peer_ && peer == peer_; }
  void on_message(PeerId peer, std::span<const std::byte> frame);
  void on_lost(PeerId peer);

 private:
  Task<> question();
  Task<Result<>> ask_server();
  Task<> close(PeerId peer);
  Result<> take(const wire::ShardList& list);

  Fabric& fabric_;
  Loop& loop_;
  const LinkConfig& config_;
  Changed changed_;
  Servers servers_{""};
  Calls calls_;
  PeerId peer_;
  std::optional<ShardMap> map_;
  std::map<ShardId, Address> leaders_;
  std::vector<Completion*> waiting_;  ///< for the answer
  std::size_t closing_ = 0;
  bool asking_ = false;
  bool stopped_ = false;
};

}  // namespace membrain
