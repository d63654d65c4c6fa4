// UcxFabric: the parts behind make_ucx_fabric.
#pragma once

#include <ucp/api/ucp.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "transport/fabric.h"
#include "transport/loop.h"
#include "transport/ucx/arrivals.h"
#include "transport/ucx/connection.h"
#include "transport/ucx/contact.h"
#include "transport/ucx/payloads.h"
#include "transport/ucx/queue_probe.h"
#include "transport/ucx/ucx_fabric.h"
#include "transport/ucx/worker.h"

namespace membrain {

/// Inside the surroundings, if there are any, while it lives.
class Inside {
 public:
  explicit Inside(const std::shared_ptr<UcxSurroundings>& around) noexcept : around_(around.get()) {
    if (around_ != nullptr) around_->enter();
  }
  ~Inside() {
    if (around_ != nullptr) around_->leave();
  }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  UcxSurroundings* const around_;
};

/// See make_ucx_fabric. `progress` is the heart: UCX notes, then what was noted is handed over,
/// then connections that are being closed go on.
class UcxFabric final : public Fabric, private Source, private Contacts::Owner {
 public:
  static Result<std::unique_ptr<Fabric>> create(std::shared_ptr<UcxContext> context, Loop& loop,
                                                UcxFabricConfig config);
  ~UcxFabric() override;
  UcxFabric(const UcxFabric&) = delete;
  UcxFabric& operator=(const UcxFabric&) = delete;

  [[nodiscard]] Loop& loop() noexcept override { return loop_; }
  void set_receiver(Receiver& receiver) noexcept override { receiver_ = &receiver; }
  Result<Address> listen(const Address& address) override;
  Task<Result<PeerId>> connect(Address address, TimePoint deadline) override;
  Result<> send(PeerId peer, std::span<const std::byte> frame) override;
  void send(PeerId peer, std::span<const std::byte> frame, std::span<const Segment> payload,
            Completion& done) override;
  void receive(Payload payload, std::span<const Segment> into, Completion& done) override;
  Task<> close(PeerId peer) override;
  Result<std::unique_ptr<Region>> register_memory(std::span<std::byte> memory) override;
  Result<std::unique_ptr<Region>> register_device_memory(std::span<std::byte> memory) override;
  [[nodiscard]] DevicePayloads device_payloads(PeerId peer) const noexcept override;
  [[nodiscard]] std::string_view lane(PeerId peer) const noexcept override;
  [[nodiscard]] std::string route(PeerId peer) const override;
  [[nodiscard]] std::array<std::byte, 32> binding(PeerId peer) const noexcept override;

 private:
  /// Peers that go at once are one doubt.
  static constexpr Duration kDoubtPatience = std::chrono::milliseconds(50);
  /// Calls to one peer that were given up and wait for its hello; with so many it is not called.
  static constexpr std::size_t kMaxGivenUp = 4;

  /// A `connect` that waits until the peer is heard.
  struct Dial {
    explicit Dial(ReadyQueue& ready) noexcept : settled(ready) {}
    Completion settled;
    PeerId peer;
  };

  /// A peer that answers on first contact, and was not heard over UCX then.
  struct Unheard {
    int connections = 0;
    bool replaced = false;  ///< our worker, on its account, and it was not heard since
  };

  UcxFabric(std::shared_ptr<UcxContext> context, Loop& loop, UcxFabricConfig config);
  [[nodiscard]] Card make_card();
  [[nodiscard]] Connection* find(PeerId peer) const noexcept;

  bool progress() override;
  [[nodiscard]] int event_fd() const noexcept override {
    return worker_ ? worker_->event_fd() : -1;
  }
  [[nodiscard]] bool arm() noexcept override;

  bool on_heard(const Contact& contact) override;
  bool on_agreed(const Contact& contact) override;
  void on_ended(const Contact& contact, const Error& why) override;
  Connection& add_connection(const Contact& contact);
  /// The peer was heard.
  void open(Connection& connection);
  void settle_dial(std::uint64_t contact, const Result<>& outcome);
  void give_up(std::uint64_t contact);
  [[nodiscard]] std::size_t given_up_to(std::uint64_t peer_fabric) const noexcept;

  /// A worker that hands to this fabric what it hears.
  Result<std::unique_ptr<UcxWorker>> make_worker();
  /// A peer is lost, or not heard, that may have left our queue in shared memory stuck.
  void doubt(const Connection& lost) noexcept;
  /// Finds out whether it is, and takes a new worker if so.
  void settle_doubt();
  /// A connection breaks. If it was not heard, and it is the second one to that peer, takes a new
  /// worker (docs/adr/0038).
  void note_unheard(const Connection& connection);
  /// Takes a new worker, and breaks all connections of the present one. False if there is none.
  bool replace_worker(std::string_view why);
  /// Ends the workers whose connections have ended.
  void end_retired();
  bool progress_worker() noexcept;
  bool deliver();
  void accept(Connection& connection, const Arrival& arrival, std::span<const std::byte> frame);
  void hand_over(Connection& connection, MessageKind kind, std::span<const std::byte> frame,
                 const HeldBytes& data);
  void hand_over_early(Connection& connection);
  bool hand_over_met();
  /// Gives UCX back what it keeps of a connection that is alive.
  static void release(Connection* connection, const HeldBytes& data) noexcept;
  void discard(std::uint64_t payload_id) noexcept override;

  void begin_close(Connection& connection);
  bool advance_closing();
  void break_siblings(const Connection& stuck);
  bool begin_with_broken();

  std::shared_ptr<UcxContext> context_;
  Loop& loop_;
  std::string label_;
  const std::shared_ptr<UcxSurroundings> around_;
  SteadyClock clock_;  ///< UCX lives in real time, whatever the loop's clock is
  std::uint64_t fabric_id_;
  OperationPool pool_;  ///< UCX may call operations back while the worker ends
  Arrivals arrivals_;
  Payloads payloads_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Connection>> connections_;  ///< by PeerId
  std::unordered_map<std::uint64_t, Connection*> by_contact_;
  std::unordered_map<std::uint64_t, Dial*> dials_;  ///< by contact
  std::vector<Connection*> closing_;
  std::vector<Connection*> broken_;    ///< noted in callbacks; their closing is due
  std::vector<Connection*> met_;       ///< have their endpoint: early messages are due
  std::vector<Connection*> given_up_;  ///< by their callers, and not heard yet
  QueueProbe probe_;
  std::vector<std::unique_ptr<UcxWorker>> retired_;  ///< replaced, until their connections end
  std::unique_ptr<UcxWorker> worker_;
  std::unordered_map<std::uint64_t, Unheard> unheard_;  ///< by peer's fabric
  TimePoint doubted_at_ = TimePoint::max();             ///< since when our queue is in doubt
  Timer no_doubts_;                                     ///< armed after each of them
  Contacts contacts_;
  Receiver* receiver_ = nullptr;
  std::uint64_t next_peer_ = 1;
  std::size_t waiting_ = 0;  ///< coroutines of connect and close
};

}  // namespace membrain
