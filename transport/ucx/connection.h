// Connection: one peer of a UCX fabric, from first contact to the last callback.
#pragma once

#include <ucp/api/ucp.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/mac.h"
#include "transport/completion.h"
#include "transport/fabric.h"
#include "transport/ucx/joined_rooms.h"
#include "transport/ucx/worker.h"

namespace membrain {

/// What a message is, in the bytes before its frame.
enum class MessageKind : std::uint32_t {
  frame = 1,               ///< the frame follows; no payload
  long_frame = 2,          ///< the frame is the active message's data
  frame_with_payload = 3,  ///< the frame follows; the data is the payload
  frame_ahead = 4,         ///< the data is the frame of the next message, which has none of its own
  hello = 5,               ///< a connection's first one, which carries nothing
};

/// The bytes before the frame in an active message's header.
struct MessageHead {
  std::uint64_t token;     ///< the one that the receiver gave to this connection
  std::uint32_t sequence;  ///< counts the connection's messages: UCX may swap them
  MessageKind kind;
};
static_assert(sizeof(MessageHead) == 16);

/// The data of an active message that UCX keeps for us until it is received or released.
struct HeldBytes {
  void* descriptor = nullptr;
  std::size_t size = 0;     ///< bytes
  bool rendezvous = false;  ///< still with the sender
  /// How much of our memory they take.
  [[nodiscard]] std::size_t held() const noexcept { return rendezvous ? 0 : size; }
};

/// A message that came before its turn.
struct EarlyMessage {
  MessageKind kind;
  std::vector<std::byte> frame;
  HeldBytes data;
};

class Connection;

/// A send or receive that UCX is working on: owns what UCX reads until its callback.
struct UcxOperation {
  Connection* connection = nullptr;  ///< null: free
  Completion* done = nullptr;        ///< null: nobody waits
  std::vector<std::byte> header;     ///< MessageHead and frame
  std::vector<std::byte> frame;      ///< one that travels as data
  std::vector<ucp_dt_iov_t> pieces;
  JoinedRoom joined;      ///< the pieces' bytes travel from or to here, if they are several
  bool scatters = false;  ///< they are to be copied from there when they have come
};

/// Operations are used again: no allocation once there are as many as are ever under way.
class OperationPool {
 public:
  UcxOperation& take(Connection& connection, Completion* done);
  void give(UcxOperation& operation) noexcept;
  /// When UCX is gone: finishes what it never called back.
  void abandon() noexcept;
  [[nodiscard]] JoinedRooms& rooms() noexcept { return rooms_; }

 private:
  JoinedRooms rooms_;
  std::vector<std::unique_ptr<UcxOperation>> all_;
  std::vector<UcxOperation*> free_;
};

/// Memory to move, as UCX wants it described: neighbours joined, empty pieces left out.
struct Pieces {
  const void* buffer = nullptr;
  std::size_t count = 0;
  ucp_datatype_t datatype = 0;
  ucp_mem_h region = nullptr;
  MemoryKind kind = MemoryKind::host;
};
Pieces describe(std::span<const Segment> segments, const UcxContext& context,
                std::vector<ucp_dt_iov_t>& pieces);

/// One peer. Closing is a sequence, explained in docs/adr/0003: stop posting; wait
/// for what is under way, and flush, while the peer is healthy; close the endpoint by force; go on
/// until the last callback; on shared memory a little longer. Only then are failed operations
/// reported: nothing can land any more.
///
/// Before that comes a hello, from each side, as soon as it has its endpoint. Whoever has heard the
/// other's knows that UCX's own handshake is over there: until then a forced close may end the
/// peer's process, so that it waits, unless the peer is lost (docs/adr/0038).
///
/// A forced close even of a healthy peer, because UCX keeps an endpoint closed otherwise until the
/// worker ends.
///
/// Over TCP a peer that is lost is flushed too, for a moment, unless UCX itself has found that it
/// is gone: UCX 1.13.1 may end the process over an endpoint that is closed amid a half-written
/// message, when later the rest can be written and the peer's farewell comes (docs/adr/0037).
class Connection {
 public:
  enum class Phase : std::uint8_t {
    greeting,  ///< proven, but the peer may not have its endpoint yet: nothing is handed over
    meeting,   ///< has its endpoint, and waits for the peer's hello
    open,
    draining,
    flushing,
    closing,
    settling,
    gone,
  };
  static constexpr unsigned kMessageId = 1;  ///< of our active messages
  static constexpr std::size_t kMaxOperations = 16384;
  static constexpr std::size_t kMaxWaitingBytes = 64u << 20;  ///< of frames, copied
  static constexpr std::size_t kMaxEarly = 4096;
  /// Over TCP, payloads up to this size travel with their message, and the receiver places them by
  /// one copy; longer ones stay with the sender until they are received (docs/adr/0011).
  static constexpr std::size_t kEagerBytes = 1u << 20;
  /// Of payloads and frames that came with their message and were not yet received.
  static constexpr std::size_t kMaxHeldBytes = 256u << 20;
  /// A peer that was not heard yet, when this fabric ends.
  static constexpr Duration kMeetingPatience = std::chrono::seconds(2);
  static constexpr Duration kDrainPatience = std::chrono::milliseconds(100);
  static constexpr Duration kFlushPatience = std::chrono::milliseconds(200);
  static constexpr Duration kSettleTime = std::chrono::milliseconds(20);

  /// It puts itself on the list `broken` when it breaks.
  Connection(UcxWorker& worker, OperationPool& pool, std::vector<Connection*>& broken, PeerId id,
             std::uint64_t contact, std::uint64_t own_token) noexcept;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// How UCX is told to move a payload. On shared memory and RDMA it knows best itself: reading
  /// straight from the sender's memory beats every copy, for all but the smallest.
  [[nodiscard]] static std::uint32_t flags_for(std::size_t bytes, std::string_view lane) noexcept;

  /// How UCX reaches the peer, for people.
  [[nodiscard]] std::string route() const;
  /// Creates the endpoint, and says hello.
  Result<> meet(std::span<const std::byte> address);
  /// The peer's hello has its turn.
  void open() noexcept { phase_ = Phase::open; }
  /// For a message that comes in: whether it is wanted. Callable in UCX's callbacks.
  [[nodiscard]] bool hears(MessageKind kind) noexcept {
    heard_ |= kind == MessageKind::hello;
    return phase_ <= Phase::open;
  }

  /// Finishes `done`, if given, sooner or later.
  Result<> send(std::span<const std::byte> frame);
  void send(std::span<const std::byte> frame, std::span<const Segment> payload, Completion& done);
  void receive(const HeldBytes& data, std::span<const Segment> into, Completion& done);

  /// Counts bytes that UCX keeps here: false, and the connection is broken, if they are too many.
  /// Callable in UCX's callbacks.
  bool hold(std::size_t bytes) noexcept;
  void let_go(std::size_t bytes) noexcept { held_bytes_ -= bytes; }

  /// Notes that the connection is broken; callable in UCX's callbacks. The first reason stays.
  void break_off(const Error& why) noexcept;
  /// Begins to close.
  void begin_close(TimePoint now);
  /// Goes on with closing; true if the phase changed.
  bool advance(TimePoint now);

  [[nodiscard]] const UcxWorker& worker() const noexcept { return worker_; }
  [[nodiscard]] bool broken() const noexcept { return broken_; }
  [[nodiscard]] bool may_post() const noexcept { return phase_ == Phase::open && !broken_; }
  [[nodiscard]] TimePoint forced_at() const noexcept { return forced_at_; }
  /// Its endpoint was closed because it is broken, or its peer did not take what was under way.
  [[nodiscard]] bool abandoned() const noexcept { return abandoned_; }

  const PeerId id;
  const std::uint64_t contact;
  const std::uint64_t own_token;
  std::uint64_t peer_token = 0;
  std::uint64_t peer_fabric = 0;
  bool called = false;  ///< by this side
  Digest binding{};
  std::string_view lane = "tcp";
  DevicePayloads devices = DevicePayloads::none;
  std::uint32_t next_in = 0;
  std::map<std::uint32_t, EarlyMessage> early;
  std::vector<std::byte> frame_ahead;  ///< of the message that comes next
  bool unwanted = false;               ///< closed as soon as it is open
  bool report_loss = false;            ///< on_lost is due when it is gone
  std::vector<Completion*> closers;    ///< who waits until it is gone
  [[nodiscard]] Phase phase() const noexcept { return phase_; }
  [[nodiscard]] const Error& why() const noexcept { return why_; }

 private:
  static void on_sent(void* request, ucs_status_t status, void* operation);
  static void on_received(void* request, ucs_status_t status, std::size_t size, void* operation);
  static void on_flushed(void* request, ucs_status_t status, void* connection);
  static void on_closed(void* request, ucs_status_t status, void* connection);
  static void on_error(void* connection, ucp_ep_h endpoint, ucs_status_t status);
  UcxOperation& start(std::span<const std::byte> frame, MessageKind kind, Completion* done);
  void post(UcxOperation& operation, const Pieces& data, std::uint32_t flags);
  void post_as_data(std::span<const std::byte> frame, MessageKind kind);
  [[nodiscard]] Pieces joined(UcxOperation& operation, const Pieces& pieces, std::size_t bytes);
  void started(ucs_status_ptr_t request, UcxOperation& operation);
  void ended(UcxOperation& operation, ucs_status_t status) noexcept;
  /// Nothing is to be waited for before the endpoint is closed.
  [[nodiscard]] bool over() const noexcept;
  void flush(TimePoint now);
  void force(TimePoint now);
  void finish_failed() noexcept;

  UcxWorker& worker_;
  const std::size_t frame_room_;  ///< bytes of a frame that fit into a message's header
  OperationPool& pool_;
  std::vector<Connection*>& broken_list_;
  ucp_ep_h endpoint_ = nullptr;
  Phase phase_ = Phase::greeting;
  bool broken_ = false;
  bool heard_ = false;            ///< the peer's hello has come
  bool joins_ = false;            ///< several pieces travel as one
  bool endpoint_failed_ = false;  ///< UCX has said so
  bool endpoint_flushing_ = false;
  bool endpoint_closing_ = false;
  bool abandoned_ = false;
  Error why_{Errc::peer_lost, 0, "closed"};
  std::uint32_t next_out_ = 0;
  std::size_t operations_ = 0;         ///< at UCX
  std::size_t waiting_bytes_ = 0;      ///< in their copied frames
  std::size_t held_bytes_ = 0;         ///< came with their message, not yet received
  std::vector<UcxOperation*> failed_;  ///< ended badly: reported when quiet
  TimePoint deadline_{};
  TimePoint forced_at_ = TimePoint::max();
};

}  // namespace membrain
