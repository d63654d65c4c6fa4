// FetchExchange: one Fetch message to one node, and all that comes back for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/ring.h"
#include "cache/client/node_links.h"
#include "cache/memory/place.h"
#include "cache/memory/straight.h"
#include "membrain/block.h"
#include "membrain/client.h"
#include "membrain/result.h"
#include "protocol/messages.h"
#include "transport/fabric.h"
#include "transport/signal.h"
#include "transport/task.h"

namespace membrain {

/// One item of a Fetch: what to ask the node for, and where it goes.
struct FetchTarget {
  std::uint32_t item = 0;  ///< the caller's number for it
  BlockKey key;
  std::uint16_t part = 0;
  Location at;
  std::uint32_t offset = 0;
  std::uint32_t length = 0;  ///< bytes
  bool verify = false;       ///< the whole part is fetched: compare with `at.checksum`
  Place into;                ///< the caller's, untouched until the item has ended
  Tier tier = Tier::host;
  DeviceSpot* spot = nullptr;  ///< where it may land instead of `into`; then nothing verifies it
};

/// What a Fetch needs besides its items.
struct FetchTerms {
  NodeId node;
  NamespaceId space;
  wire::SessionProof proof;
  TimePoint deadline;
  std::uint32_t window = 4;  ///< payloads that are being received at once
};

/// Who is told as each target ends: `ok`, or why not.
class FetchListener {
 public:
  /// Must not end the exchange.
  virtual void on_target(const FetchTarget& target, const Result<>& outcome) = 0;

 protected:
  ~FetchListener() = default;
};

/// Connects if need be, asks, receives straight into the targets, verifies. Each target ends once,
/// when no byte can land in it any more:
///  - its Data came (whole, or with the reason why not);
///    What may land in a GPU's memory, and comes by a connection that brings it there, does;
///  - the connection was lost, and what was being received has been ended by the fabric;
///  - at the deadline, or on `stop`: at once if nothing of it is being received; else it has
///    kDrain more, then the connection is closed and the receive awaited.
/// Data that does not name this exchange's own waiting targets with exactly their lengths is
/// dropped, as a whole.
///
/// A target may be set aside meanwhile, for who has its bytes from elsewhere: what still comes of
/// it lands in other memory, and nobody is told. When nothing else is left, the exchange takes
/// itself back as soon as the node speaks: how late it was says something about the lane.
///
/// What it sees of the lane goes into the links' LaneBook: answers and payloads; not that an answer
/// did not come, which is for its owner to judge.
///
/// Threads  The data loop only. The exchange outlives `run`.
/// Cost     Allocates for the exchange, nothing for a message or a target: what a message needs is
///          in the links' TransferScratch.
class FetchExchange final : public Exchange {
 public:
  /// With the closing that may follow, an operation ends within a second after its deadline.
  static constexpr Duration kDrain = std::chrono::milliseconds(800);

  FetchExchange(NodeLinks& links, FetchTerms terms, std::vector<FetchTarget> targets,
                FetchListener& listener);
  ~FetchExchange() = default;

  /// Ends when every target has.
  Task<> run();
  /// Takes the rest back: what has not ended fails with `why`. Not from within `on_target`.
  void stop(Errc why);
  /// The same, in the exchange's next turn: from anywhere.
  void stop_soon() noexcept;
  /// True if nothing of a target has begun to land.
  [[nodiscard]] bool idle(std::uint32_t tag) const noexcept;
  /// Sets an idle target aside: what still comes of it lands in `aside`, which is of its length and
  /// outlives `run`. False, and nothing is changed, if it is not idle.
  [[nodiscard]] bool set_aside(std::uint32_t tag, const Place& aside) noexcept;
  /// All that is left was set aside.
  [[nodiscard]] bool all_aside() const noexcept { return open_ == aside_; }
  [[nodiscard]] std::span<const FetchTarget> targets() const noexcept { return targets_; }
  /// What carried the bytes. Static storage; empty if it never got that far.
  [[nodiscard]] std::string_view lane() const noexcept { return lane_; }
  [[nodiscard]] bool stopped() const noexcept { return stopped_; }
  [[nodiscard]] bool lost() const noexcept { return lost_; }
  /// The node has said something.
  [[nodiscard]] bool answered() const noexcept { return answered_; }
  /// Since when nothing has come.
  [[nodiscard]] TimePoint last_sign() const noexcept { return last_sign_; }
  /// The deadline ended it, after a silence of this length; zero if it ended otherwise, or while
  /// something was being received.
  [[nodiscard]] Duration silence() const noexcept { return silence_; }
  /// Bytes of payloads being received.
  [[nodiscard]] std::uint64_t receiving_bytes() const noexcept { return receiving_bytes_; }

  void on_frame(const wire::Frame& frame, Payload payload) override;
  void on_peer_lost() override;

 private:
  enum class Stage : std::uint8_t { waiting, claimed, queued, receiving, ended };
  static constexpr std::uint32_t kNoTag = ~std::uint32_t{0};
  /// Where a target is on its way. Those of one payload are a chain, in the payload's order.
  struct Course {
    Stage stage = Stage::waiting;
    bool aside = false;
    std::uint32_t next = kNoTag;
  };
  struct Arrival {
    std::uint32_t first_tag = kNoTag;
    Payload payload;
  };

  void try_to_begin();
  void begin(PeerId peer);
  void note_answer() noexcept;
  void take_data(const wire::Data& message, Payload payload);
  [[nodiscard]] bool fits(const wire::Data& message, std::uint64_t payload_bytes);
  [[nodiscard]] bool fits(const wire::DataItem& item) const;
  void receive_next();
  [[nodiscard]] bool all_have_spots(std::uint32_t first_tag) const noexcept;
  /// Whether what comes now lies on a GPU: it does if it can, once that was asked for.
  [[nodiscard]] bool from_device(std::uint32_t first_tag) const noexcept;
  [[nodiscard]] std::optional<Segment> room_for(std::uint32_t first_tag, const Payload& payload);
  Task<> receive(std::uint32_t first_tag, Payload payload);
  void landed(std::uint32_t tag);
  void landed_straight(std::uint32_t tag, const std::byte* at);
  void suspect(const Location& at);
  void end(std::uint32_t tag, const Result<>& outcome);
  void end_idle(Errc why, std::string_view context);
  void close_if_hung();

  NodeLinks& links_;
  Fabric& fabric_;
  Loop& loop_;
  FetchTerms terms_;
  FetchListener& listener_;
  std::vector<FetchTarget> targets_;  ///< by tag
  std::vector<Course> courses_;       ///< by tag
  Ring<Arrival> arrivals_;            ///< not yet being received
  OpId op_;
  PeerId peer_;
  std::string_view lane_;
  Signal signal_;
  Timer timer_;
  TimePoint drained_by_{};
  TimePoint asked_at_{};
  TimePoint last_sign_;
  Duration silence_{};
  std::size_t open_ = 0;         ///< targets that have not ended
  std::size_t aside_ = 0;        ///< of these, set aside
  std::uint32_t receiving_ = 0;  ///< payloads being received
  bool into_device_ = false;     ///< that was asked for
  std::uint64_t receiving_bytes_ = 0;
  bool answered_ = false;
  bool lost_ = false;
  bool stop_soon_ = false;
  bool stopped_ = false;
  bool closing_ = false;
  Errc why_stopped_ = Errc::timed_out;
};

/// Milliseconds that a deadline leaves, for the wire; at least 1.
[[nodiscard]] std::uint32_t milliseconds_left(TimePoint now, TimePoint deadline) noexcept;

}  // namespace membrain
