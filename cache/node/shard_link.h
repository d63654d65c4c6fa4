// Shard link: a node's connection to one shard, from the control loop.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.h"
#include "cache/node/door.h"
#include "cache/node/link_config.h"
#include "cache/node/node_status.h"
#include "cache/node/pause.h"
#include "cache/node/shard_directory.h"
#include "cache/node/sides.h"
#include "protocol/calls.h"
#include "protocol/copy_messages.h"
#include "protocol/messages.h"
#include "transport/fabric.h"

namespace membrain {

/// What the links of a node share. All of it outlives them.
struct ControlLoop {
  Fabric& fabric;
  NodeCounters& counters;
  const LinkConfig& config;
  const Door<SlotSide>& slots;
  ShardDirectory& directory;
  std::uint64_t last_link = 0;      ///< `LinkId::number` of the latest connection
  std::map<ShardId, Epoch> epochs;  ///< the highest ever seen of each shard
  bool leaving = false;             ///< every shard is told

  [[nodiscard]] Loop& loop() const noexcept { return fabric.loop(); }
};

/// One connection after another, for ever: find out who leads the shard, connect, register, report
/// every sealed slot of its range, then publish, ask for space, free and beat; when the connection
/// or the shard's answers fail, from the start again after a back-off. Refuses a leader whose epoch
/// is lower than one that this shard has had.
///
/// Threads  The control loop's; the slots are reached through a door.
class ShardLink {
 public:
  /// Batches of Publish under way at once; what comes meanwhile goes together in the next.
  static constexpr std::size_t kPublishing = 4;

  ShardLink(ControlLoop& control, ShardId shard, KeyRange range);
  ~ShardLink();
  ShardLink(const ShardLink&) = delete;
  ShardLink& operator=(const ShardLink&) = delete;

  void start();
  /// The connection ends, if it has registered with another range.
  void set_range(KeyRange range);
  /// Ends the connection; no other one follows.
  void begin_stop();
  /// `leaving` has become true: says so on this connection.
  void leave();
  /// Ends when it is quiet.
  Task<> stop();

  [[nodiscard]] PeerId peer() const noexcept { return peer_; }
  void on_message(PeerId peer, std::span<const std::byte> frame);
  void on_lost(PeerId peer, const Error& why);

  // As ShardSide's.
  void portion(LinkId link, std::vector<wire::SlotEntry> entries, bool last);
  void publish(LinkId link, std::vector<wire::SlotEntry> entries);
  void need(LinkId link, std::vector<Need> needs);
  void freed(LinkId link, std::vector<wire::SlotRef> slots);
  void corrupt(LinkId link, wire::SlotRef at);
  void copied(LinkId link, std::vector<wire::CopyEnd> ends);

 private:
  struct Portion {
    std::vector<wire::SlotEntry> entries;
    bool last = false;
  };
  /// Counts a coroutine of the connection for as long as it runs.
  class Child {
   public:
    explicit Child(ShardLink& link) noexcept : link_(link) { ++link_.child_count_; }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child() {
      if (--link_.child_count_ == 0) link_.children_.end();
    }

   private:
    ShardLink& link_;
  };

  Task<> run();
  Task<Result<>> connect_and_serve(bool elsewhere);
  Task<Result<>> serve();
  Task<Result<>> register_node();
  Task<Result<>> take_term(wire::Accepted accepted);
  Task<Result<>> report();
  Task<> beat();
  Task<> publish_batches();
  Task<> ask(std::vector<Need> needs);
  template <class Noted, class Message>
  Task<> tell(Message message);
  Task<> confirm_freed(std::vector<wire::SlotRef> slots);
  void start_telling_corrupt();
  Task<> tell_corrupt(wire::SlotRef at);
  Task<> tell_copied(std::vector<wire::CopyEnd> ends);
  Task<> tell_leaving();
  void note_alone(std::uint64_t alone);

  [[nodiscard]] bool up() const noexcept { return up_ && !stopping_; }
  [[nodiscard]] bool is_current(LinkId link) const noexcept { return link == link_ && up(); }
  [[nodiscard]] wire::Header header() const noexcept;
  [[nodiscard]] TimePoint answer_deadline() const noexcept;
  void note_failure(const Error& why, std::uint32_t failures);
  void take_down(const Error& why);
  bool again(const Error& why);
  void start_publishing();
  void settle(const std::vector<wire::SlotEntry>& entries,
              const std::vector<wire::ItemStatus>& statuses);
  template <class Message>
  [[nodiscard]] bool meant(const Message& message);
  std::size_t on_free(const wire::FreeSlots& message);
  void on_copy(wire::CopyBlocks order);

  ControlLoop& control_;
  Loop& loop_;
  NodeCounters& counters_;
  const LinkConfig& config_;
  const Door<SlotSide>& slots_;
  const ShardId shard_;
  KeyRange range_;
  Epoch& epoch_;  ///< the highest ever seen
  Calls calls_;
  Pause retry_;     ///< between two connections
  Pause news_;      ///< of the connection: a portion, its end
  Pause heart_;     ///< between two beats
  Pause farewell_;  ///< between two questions of how much is here alone
  Pause children_;  ///< the connection's coroutines end
  Pause quiet_;     ///< what `stop` waits for

  Address leader_;       ///< of this connection, or the last one
  Address silent_;       ///< the leader that fell silent at last; empty: there is none
  bool misled_ = false;  ///< that was named, and does not lead
  PeerId peer_;
  LinkId link_;
  Duration ttl_{};
  bool up_ = false;        ///< connected and nothing has failed
  bool told_ = false;      ///< the data loop knows this connection, with its range
  bool reported_ = false;  ///< the whole report has been answered
  Error down_why_{};
  std::uint64_t alone_ = wire::Leaving::kNotCounted;  ///< what the counters have of it
  std::size_t child_count_ = 0;
  std::size_t publishing_ = 0;
  std::optional<Portion> portion_;
  std::deque<wire::SlotEntry> to_publish_;
  std::vector<wire::SlotRef> to_tell_corrupt_;  ///< after the report that may name them

  bool running_ = false;
  bool stopping_ = false;
};

}  // namespace membrain
