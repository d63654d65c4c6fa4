// SimNetwork: a network of simulated processes in one thread, in virtual time, from a seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "membrain/result.h"
#include "transport/fabric.h"
#include "transport/loop.h"
#include "transport/sim_agenda.h"
#include "transport/sim_wires.h"
#include "transport/windows.h"

namespace membrain {

class SimWindows;

/// How a simulated network behaves. The default is a sound one: no loss, frames in order.
struct SimFaults {
  Duration min_delay = std::chrono::microseconds(20);   ///< one way
  Duration max_delay = std::chrono::microseconds(100);  ///< one way
  std::uint64_t bytes_per_second = 1'000'000'000;       ///< of each payload's transfer
  /// how long an end takes to notice that its connection is broken
  Duration min_notice = std::chrono::milliseconds(1);
  Duration max_notice = std::chrono::milliseconds(50);
  Duration partition_notice =
      std::chrono::seconds(3);  ///< a partition this long breaks connections
  Duration connect_retry = std::chrono::milliseconds(100);  ///< a first contact is tried again

  // Probabilities, drawn for each message (bit_flip: for each payload received).
  double loss = 0;
  double duplicate = 0;  ///< of frames without a payload; a payload is never repeated
  Duration duplicate_delay = std::chrono::milliseconds(5);  ///< the second comes late by up to this
  double reorder = 0;  ///< comes late by up to reorder_delay; what was sent later may overtake it
  Duration reorder_delay = std::chrono::milliseconds(5);
  double reset = 0;     ///< the message is lost and its connection breaks
  double bit_flip = 0;  ///< one bit of the payload arrives wrong
};

/// What a simulated network does with GPUs' memory. The default takes none.
struct SimDevices {
  DevicePayloads payloads = DevicePayloads::none;  ///< of every connection
  std::uint64_t arrive_bytes = 0;  ///< payloads up to here come with their message, from the host
  /// Whether an address is in a GPU's memory: every segment must be of the kind that it says.
  std::function<bool(const std::byte*)> is_device;
};

/// What has happened so far.
struct SimStats {
  std::uint64_t events = 0;
  std::uint64_t messages = 0;  ///< sent
  std::uint64_t delivered = 0;
  std::uint64_t lost = 0;
  std::uint64_t duplicated = 0;
  std::uint64_t reordered = 0;
  std::uint64_t resets = 0;
  std::uint64_t payloads = 0;  ///< received completely
  std::uint64_t payload_bytes = 0;
  std::uint64_t flipped = 0;
  std::uint64_t connections = 0;
  std::uint64_t window_reads = 0;
  std::uint64_t sent_from_devices = 0;      ///< payloads
  std::uint64_t received_into_devices = 0;  ///< payloads, whatever became of them
};

/// All fabrics of one simulated cluster, and the loops that they belong to.
///
/// What it keeps of the `Fabric` contract, and how it bends it
/// - Frames are copied when sent. A payload stays in the sender's memory until the receiver's
///   `receive` has run its virtual time; its bytes land in two halves, so that torn and late
///   writes show. No byte of an operation is read or written after its completion has finished.
/// - `send` with a payload ends with success when the receiver has received or discarded it, or
///   when the message was lost on the way (the sender cannot tell), and with `peer_lost` when the
///   connection goes first.
/// - A partition holds messages and transfers, like TCP does: they go on when it ends, and are lost
///   with the connection if it lasts for `partition_notice`.
/// - After `close`, and until that ends, bytes of receives already posted may still land.
/// - Payloads that `set_eager` names travel with their message instead, as short ones do over UCX.
///
/// Processes are names: the fabrics made under one name die, pause and part from others together.
///
/// Ownership  The clock and the loops are the caller's and outlive the fabrics; the network
///            outlives them too.
/// Threads    One.
/// Cost       No allocation per message once warm.
class SimNetwork {
 public:
  SimNetwork(ManualClock& clock, std::uint64_t seed, SimFaults faults = {});
  ~SimNetwork();
  SimNetwork(const SimNetwork&) = delete;
  SimNetwork& operator=(const SimNetwork&) = delete;

  /// A fabric of the process of this name, which may have several. `listen` takes any name as an
  /// address. After `kill`, new fabrics of the same name are a new process.
  [[nodiscard]] std::unique_ptr<Fabric> make_fabric(Loop& loop, std::string_view process);

  /// Windows of the process of this name, on one of its loops; they go before the network.
  [[nodiscard]] std::unique_ptr<Windows> make_windows(Loop& loop, std::string_view process);

  // Time.

  /// Goes on by a little: turns every loop once (not those of paused processes) or, if that did
  /// nothing, moves the clock to the next event or timer and lets happen what is due. False if
  /// nothing is left to happen.
  bool step();
  /// Turns every loop once, beginning anywhere. True if anything was done.
  bool turn_loops();
  /// When the network does something next.
  [[nodiscard]] std::optional<TimePoint> next_event() const noexcept { return agenda_.next(); }
  /// When a timer of a loop that is not paused is due next.
  [[nodiscard]] std::optional<TimePoint> next_timer() const noexcept;
  /// Lets happen what is due by the clock. True if there was anything.
  bool deliver_due();

  // Faults.

  void set_faults(const SimFaults& faults) noexcept { faults_ = faults; }
  [[nodiscard]] const SimFaults& faults() const noexcept { return faults_; }
  /// What luck makes of a message.
  enum class Fate : std::uint8_t { lost, repeated };
  using Witness = std::function<void(Fate, std::span<const std::byte> frame)>;
  /// Told of each message that is lost or repeated. For whoever counts what a schedule has met.
  void set_witness(Witness witness) { witness_ = std::move(witness); }
  void set_devices(SimDevices devices) { devices_ = std::move(devices); }
  /// Payloads of up to so many bytes of the host's memory travel with their message: whoever sends
  /// one has its memory back at once and waits for nobody, and it is received in no time.
  void set_eager(std::uint64_t bytes) noexcept { eager_bytes_ = bytes; }
  /// Parts two processes, or joins them again.
  void partition(std::string_view a, std::string_view b, bool on);
  /// Nothing of `from` reaches `to`; the other direction is untouched.
  void partition_one_way(std::string_view from, std::string_view to, bool on);
  void heal_partitions();
  /// The process is gone: its memory is neither read nor written any more, its peers notice after
  /// a while. Its own operations end with `peer_lost` at once, its receivers are told, its loops
  /// are still turned, so that its tasks can end; nothing that they do leaves it.
  void kill(std::string_view process);
  /// Stopped like by SIGSTOP: its loops are not turned, its transfers stand still; what arrives
  /// waits.
  void pause(std::string_view process);
  void resume(std::string_view process);
  [[nodiscard]] bool paused(std::string_view process) noexcept;
  /// Everything to and from the process takes this much longer.
  void slow_down(std::string_view process, Duration by);
  /// Breaks every connection between two processes; both ends notice after a while.
  void reset_connections(std::string_view a, std::string_view b);

  [[nodiscard]] const SimStats& stats() const noexcept { return stats_; }
  /// Luck from the same seed, for whoever drives the simulation.
  [[nodiscard]] SimRandom& random() noexcept { return random_; }

 private:
  friend class SimFabric;
  friend class SimWindows;
  friend class SimRemoteWindow;
  using Kind = SimEvent::Kind;
  struct Process {
    std::string name;
    bool paused = false;
    Duration slowness{};
  };
  struct Driven {
    Loop* loop;
    std::uint32_t process;
    std::vector<const SimFabric*> fabrics;  ///< at least one
  };
  struct Block {
    std::uint32_t from;
    std::uint32_t to;
    std::uint32_t serial;
    bool on;
  };

  /// Memory that a living process has opened to others.
  struct OpenedWindow {
    const SimWindows* owner;
    std::uint32_t process;
    std::span<std::byte> memory;
  };

  /// A turn would do nothing.
  [[nodiscard]] bool rests(const Driven& driven) const noexcept;
  /// The same as above. If nothing was done, `next` is then no later than the next timer.
  bool turn_loops(std::optional<TimePoint>& next);

  // Called by fabrics.
  Result<Address> listen(SimFabric& fabric, const Address& address);
  SimName start_connect(SimFabric& fabric, Address to, TimePoint deadline, Completion& settled);
  PeerId end_connect(SimName name);
  Result<> send(SimEndName from, std::span<const std::byte> frame);
  void send(SimEndName from, std::span<const std::byte> frame, std::span<const Segment> payload,
            std::uint64_t bytes, Completion& done);
  void send_along(SimEndName from, std::span<const std::byte> frame,
                  std::span<const Segment> payload, std::uint64_t bytes, Completion& done);
  void receive(std::uint64_t payload_id, std::span<const Segment> into, Completion& done);
  void discard(std::uint64_t payload_id) noexcept;
  /// Segments are of the kind that they say; in device memory, of one run, where that is taken.
  void check_kinds(std::span<const Segment> segments) const;
  /// True if `quiet` will finish; false if the end is quiet already.
  bool close(SimEndName name, Completion& quiet);
  void hand_over(std::uint32_t message);
  void hand_over_loss(SimEndName name);
  void leave(SimFabric& fabric);

  // What happens.
  void happen(const SimEvent& event);
  void message_arrives(const SimEvent& event);
  void payload_moves(const SimEvent& event);
  void payload_acknowledged(const SimEvent& event);
  void connect_attempt(const SimEvent& event);
  void partition_noticed(const SimEvent& event);

  // Connections.
  PeerId join(SimFabric& from, SimFabric& to);
  void break_link(std::uint32_t index);
  void end_gone(std::uint32_t index, std::uint8_t side);
  /// Its loop's next turn hands it over.
  void arrive(SimFabric& fabric, const SimArrival& arrival);
  void break_links_between(std::uint32_t a, std::uint32_t b);
  void cut_off(SimFabric& fabric);
  /// Draws the message's luck. True if it is to be put on the wire.
  bool passes(SimEndName from, std::span<const std::byte> frame);
  /// It arrives in order, if `late` is 0 and luck has it, or late by up to `late`.
  void put_on_wire(SimEndName to, std::span<const std::byte> frame, const SimName* transfer,
                   std::uint64_t bytes, Duration late);

  // Transfers.
  [[nodiscard]] bool arrives_with_its_message(SimName name) noexcept;
  [[nodiscard]] Duration time_to_move(std::uint64_t bytes) const noexcept;
  [[nodiscard]] bool stands_still(const SimTransfer& transfer) noexcept;
  /// Its last bytes are at the receiver.
  void landed(const SimTransfer& transfer) noexcept;
  void end_transfer_if_done(std::uint32_t index);

  [[nodiscard]] TimePoint now() const noexcept { return clock_.now(); }
  [[nodiscard]] Duration delay(std::uint32_t a, std::uint32_t b) noexcept;
  void at(TimePoint when, Kind kind, SimName what, std::uint8_t side = 0);
  [[nodiscard]] std::uint32_t process_of(std::string_view name);
  [[nodiscard]] bool blocked(std::uint32_t from, std::uint32_t to) const noexcept;
  void set_blocked(std::uint32_t from, std::uint32_t to, bool on);
  void release_held();

  ManualClock& clock_;
  SimFaults faults_;
  SimDevices devices_;
  Witness witness_;
  std::uint64_t eager_bytes_ = 0;
  SimRandom random_;
  SimStats stats_;
  SimAgenda agenda_;
  std::size_t arrivals_ = 0;    ///< of all fabrics, not handed over yet
  std::vector<SimEvent> held_;  ///< by partitions and pauses, in order
  std::vector<Process> processes_;
  std::vector<Driven> loops_;
  std::vector<SimFabric*> fabrics_;
  std::vector<Block> blocks_;
  std::size_t blocks_on_ = 0;
  std::unordered_map<Address, SimFabric*> listeners_;
  std::uint32_t next_port_ = 40000;
  std::deque<SimLink> links_;
  SimSlab<SimMessage> messages_;
  SimSlab<SimTransfer> transfers_;
  /// Bytes of those that travel with their message, by transfer.
  std::unordered_map<std::uint32_t, std::vector<std::byte>> along_;
  SimSlab<SimConnect> connects_;
  std::vector<SimWindows*> windows_;
  std::map<std::uint64_t, OpenedWindow> opened_;
  std::uint64_t next_window_ = 1;
};

}  // namespace membrain
