// Sharer: an engine's process as a node of the cluster, whose blocks lie on its GPUs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cache/memory/device_lane.h"
#include "cache/node/announcers.h"
#include "cache/node/authority.h"
#include "cache/node/door.h"
#include "cache/node/node_status.h"
#include "cache/node/peers.h"
#include "cache/node/shard_links.h"
#include "cache/node/sides.h"
#include "cache/share/share_service.h"
#include "cache/share/share_table.h"
#include "membrain/result.h"
#include "transport/fabric.h"
#include "transport/signal.h"
#include "transport/task.h"

namespace membrain {

struct SharerConfig {
  Address server;      ///< first contact with the servers
  std::string secret;  ///< the cluster's
  std::string host;    ///< id of this host: equal text = the same host
  Address listen;      ///< where peers make first contact; port 0: any
  Address advertise;   ///< the same as peers reach it; empty: as listened on
};

/// Speaks with the shards as a node does (register, report, publish, obey), takes no blocks, and
/// serves what its engine shares. Every start is a new node: nothing of it outlives the process.
///
/// Ownership  Fabrics and their loops outlive it. After `leave` has ended it may be destroyed.
/// Threads    Two loops, as a node. Constructor and `start`: before they run, or on the thread that
///            turns both. `leave`: the control loop's; the rest: the data loop's.
class Sharer final : public Receiver, public SlotSide {
 public:
  /// `lanes` are on the data loop, and nobody else's.
  Sharer(Fabric& control, Fabric& data, std::vector<std::unique_ptr<DeviceLane>> lanes,
         SharerConfig config);
  ~Sharer();
  Sharer(const Sharer&) = delete;
  Sharer& operator=(const Sharer&) = delete;

  /// Listens, then registers with the shards, and goes on trying for ever. What `Fabric::listen`
  /// says.
  Result<Address> start();
  Task<> leave();

  /// Peers may read it from now on; the shard is told. As `ShareTable::add`; `unavailable` when
  /// stopping, or for a GPU without a lane.
  Result<> share(SharedBlock block);
  /// Refuses these to peers, and ends when nobody reads them: what lies there is the engine's alone
  /// then. It waits for copies by the GPU that are under way, not for peers.
  Task<> unshare(std::shared_ptr<const LayoutGeometry> layout, std::vector<std::uint32_t> ids);

  [[nodiscard]] NodeId node() const noexcept { return node_; }
  [[nodiscard]] const ShareTable& table() const noexcept { return table_; }
  [[nodiscard]] const NodeCounters& counters() const noexcept { return counters_; }

  void on_message(PeerId peer, std::span<const std::byte> frame, Payload payload) override;
  void on_lost(PeerId peer, const Error& why) override;

  void mapped(const std::vector<ShardId>& shards) override;
  void accepted(LinkId link, const LinkTerm& term) override;
  void want_portion(LinkId link) override;
  void settled(LinkId link, const std::vector<Verdict>& verdicts) override;
  void free(LinkId link, Epoch epoch, const std::vector<wire::SlotRef>& slots) override;
  void need_answered(LinkId, std::size_t) override {}
  void copy(LinkId, wire::CopyBlocks) override {}  // nobody orders that of an engine
  void take_no_more() override {}                  // what is shared is the engine's own
  void lost(LinkId link) override;
  void stop() override;

 private:
  bool dispatch(PeerId peer, const wire::Frame& frame);
  void suspect(const wire::SlotRef& at);
  Task<> hash_again(wire::SlotRef at);
  Task<> drain();

  SharerConfig config_;
  Fabric& fabric_;
  NodeId node_;
  NodeCounters counters_;
  ShareTable table_;
  Authority authority_;
  Peers peers_;
  Announcers announcers_;
  const std::vector<std::unique_ptr<DeviceLane>> lanes_;
  SharePlace place_;
  ShareService service_;
  std::list<Signal*> waiting_;  ///< for reads to end
  Door<SlotSide> door_;
  Door<ShardSide> shard_;
  ShardLinks links_;
  bool hashing_ = false;  ///< what a reader doubts
  bool stopped_ = false;
};

}  // namespace membrain
