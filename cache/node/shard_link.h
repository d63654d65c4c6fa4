// Shard link: the control loop of a node. Keeps it registered with the shard and carries what both
// have to say to each other.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "cache/node/door.h"
#include "cache/node/node_status.h"
#include "cache/node/pause.h"
#include "cache/node/sides.h"
#include "protocol/calls.h"
#include "protocol/messages.h"
#include "protocol/servers.h"
#include "transport/fabric.h"

namespace membrain {

struct LinkConfig {
  std::string server;  ///< first contact: one address, or several between commas
  std::string secret;  ///< the cluster's
  std::string host;    ///< id of this host: equal text = the same host
  Address address;     ///< of the data loop, as clients reach it
  std::string door;    ///< as wire::NodeEntry's
  NodeId node;
  Incarnation incarnation;
  std::uint64_t capacity_bytes = 0;
  Tier tier = Tier::host;

  Duration connect_timeout = std::chrono::seconds(2);
  Duration answer_timeout = std::chrono::seconds(5);  ///< of one call, which is then made again
  Duration first_backoff = std::chrono::milliseconds(50);
  Duration longest_backoff = std::chrono::seconds(2);
  /// where another server takes over, which is a matter of moments
  Duration longest_of_several = std::chrono::milliseconds(300);
};

/// One connection after another, for ever: connect, register, report every sealed slot, then
/// publish, ask for space, free and beat; when the connection or the shard's answers fail, from the
/// start again after a back-off. Refuses a shard whose epoch is lower than one it has seen.
///
/// Threads  The control loop's; the slots are reached through a door.
class ShardLink final : public Receiver, public ShardSide {
 public:
  /// Batches of Publish under way at once; what comes meanwhile goes together in the next.
  static constexpr std::size_t kPublishing = 4;

  ShardLink(Fabric& fabric, NodeCounters& counters);
  ~ShardLink();

  [[nodiscard]] const Door<ShardSide>& door() const noexcept { return door_; }
  /// Once, before `adopted` may come.
  void configure(LinkConfig config, Door<SlotSide> slots);
  /// Ends the connection, then stops the data loop; ends when both are quiet.
  Task<> stop();

  void on_message(PeerId peer, std::span<const std::byte> frame, Payload payload) override;
  void on_lost(PeerId peer, const Error& why) override;

  void adopted() override;
  void portion(LinkNumber link, std::vector<wire::SlotEntry> entries, bool last) override;
  void publish(LinkNumber link, std::vector<wire::SlotEntry> entries) override;
  void need(LinkNumber link, std::vector<Need> needs) override;
  void freed(LinkNumber link, std::vector<wire::SlotRef> slots) override;
  void corrupt(LinkNumber link, wire::SlotRef at) override;
  void slots_quiet() override;

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
  Task<Result<>> serve();
  Task<Result<>> register_node();
  Task<Result<>> report();
  Task<> beat();
  Task<> publish_batches();
  Task<> ask(std::vector<Need> needs);
  template <class Noted, class Message>
  Task<> tell(Message message);
  Task<> confirm_freed(std::vector<wire::SlotRef> slots);
  Task<> tell_corrupt(wire::SlotRef at);

  [[nodiscard]] bool up() const noexcept { return up_ && !stopping_; }
  [[nodiscard]] wire::Header header() const noexcept;
  [[nodiscard]] TimePoint answer_deadline() const noexcept;
  [[nodiscard]] Duration backoff(std::uint32_t failures) const noexcept;
  void note_failure(const Error& why, std::uint32_t failures);
  void take_down(const Error& why);
  bool again(const Error& why);
  void start_publishing();
  void settle(const std::vector<wire::SlotEntry>& entries,
              const std::vector<wire::ItemStatus>& statuses);
  std::size_t on_free(const wire::FreeSlots& message);

  Fabric& fabric_;
  Loop& loop_;
  NodeCounters& counters_;
  LinkConfig config_;
  Servers servers_{""};
  Door<SlotSide> slots_;
  Door<ShardSide> door_;
  Calls calls_;
  Pause retry_;     ///< between two connections
  Pause news_;      ///< of the connection: a portion, its end
  Pause heart_;     ///< between two beats
  Pause children_;  ///< the connection's coroutines end
  Pause quiet_;     ///< what `stop` waits for

  PeerId peer_;
  LinkNumber link_ = 0;
  Epoch epoch_;  ///< the highest ever seen
  Duration ttl_{};
  bool up_ = false;        ///< connected and nothing has failed
  bool reported_ = false;  ///< the whole report has been answered
  Error down_why_{};
  std::size_t child_count_ = 0;
  std::size_t publishing_ = 0;
  std::optional<Portion> portion_;
  std::deque<wire::SlotEntry> to_publish_;

  bool running_ = false;
  bool stopping_ = false;
  bool slots_quiet_ = false;
};

}  // namespace membrain
