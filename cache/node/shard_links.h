// Shard links: a node's control loop: one link for each shard of the cluster.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/ids.h"
#include "cache/node/door.h"
#include "cache/node/link_config.h"
#include "cache/node/node_status.h"
#include "cache/node/pause.h"
#include "cache/node/shard_directory.h"
#include "cache/node/shard_link.h"
#include "cache/node/sides.h"
#include "transport/fabric.h"

namespace membrain {

/// Learns the map of shards, then keeps a link for every shard of the newest map. A link whose
/// shard has got another range begins anew; that of a shard that is no more ends.
///
/// Ownership  Receives for the fabric, which outlives it, as do the counters.
/// Threads    The control loop's; the slots are reached through a door.
class ShardLinks final : public Receiver, public ShardSide {
 public:
  ShardLinks(Fabric& fabric, NodeCounters& counters);
  ~ShardLinks();

  [[nodiscard]] const Door<ShardSide>& door() const noexcept { return door_; }
  /// The epoch that this node goes by, of each shard.
  [[nodiscard]] const std::map<ShardId, Epoch>& epochs() const noexcept { return control_.epochs; }
  /// Once, before `adopted` may come.
  void configure(LinkConfig config, Door<SlotSide> slots);
  /// The node is about to go: the data loop and every shard are told. Once.
  void leave();
  /// Ends every connection, then stops the data loop; ends when all are quiet.
  Task<> stop();

  void on_message(PeerId peer, std::span<const std::byte> frame, Payload payload) override;
  void on_lost(PeerId peer, const Error& why) override;

  void adopted() override;
  void portion(LinkId link, std::vector<wire::SlotEntry> entries, bool last) override;
  void publish(LinkId link, std::vector<wire::SlotEntry> entries) override;
  void need(LinkId link, std::vector<Need> needs) override;
  void freed(LinkId link, std::vector<wire::SlotRef> slots) override;
  void corrupt(LinkId link, wire::SlotRef at) override;
  void copied(LinkId link, std::vector<wire::CopyEnd> ends) override;
  void slots_quiet() override;

 private:
  Task<> learn_map();
  void take_map(const ShardMap& map);
  Task<> retire(std::unique_ptr<ShardLink> link);
  [[nodiscard]] ShardLink* find(LinkId link) const;
  [[nodiscard]] ShardLink* with(PeerId peer) const;

  Fabric& fabric_;
  Loop& loop_;
  NodeCounters& counters_;
  LinkConfig config_;
  Door<SlotSide> slots_;
  Door<ShardSide> door_;
  ShardDirectory directory_;
  ControlLoop control_;
  std::map<ShardId, std::unique_ptr<ShardLink>> links_;
  std::vector<ShardLink*> retiring_;
  Pause retry_;  ///< between two questions for the first map
  Pause quiet_;  ///< what `stop` waits for

  bool learning_ = false;
  bool stopping_ = false;
  bool slots_quiet_ = false;
};

}  // namespace membrain
