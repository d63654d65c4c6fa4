// ClientCore: all that a client does, as coroutines on two loops. `Client` gives it threads; tests
// and the simulator drive it turn by turn.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/key.h"
#include "cache/client/background_store.h"
#include "cache/client/cancel_token.h"
#include "cache/client/cluster_session.h"
#include "cache/client/device_share.h"
#include "cache/client/device_transfer.h"
#include "cache/client/fetch_list.h"
#include "cache/client/mapped_nodes.h"
#include "cache/client/match_state.h"
#include "cache/client/node_links.h"
#include "cache/client/node_windows.h"
#include "cache/client/pin_desk.h"
#include "cache/client/reserve.h"
#include "cache/client/store_list.h"
#include "membrain/block.h"
#include "membrain/client.h"
#include "membrain/result.h"
#include "transport/fabric.h"
#include "transport/task.h"

namespace membrain {

/// The client over any two fabrics.
///
/// Ownership  Borrows the fabrics (and is their receiver); both outlive it. Stopped before it is
///            destroyed, if it was started.
/// Threads    The methods under "control loop" run on the control fabric's loop, those under "data
///            loop" on the data fabric's; what one side must know of the other travels through the
///            inboxes. Both fabrics may share one loop. Checksums are computed on the data loop.
class ClientCore final : private ClusterListener {
 public:
  static constexpr std::uint32_t kMaxTransfers = 65536;  ///< fetches and stores under way

  /// `host` names this machine (equal text = the same host); empty: never the same.
  /// `opener` maps arenas of this host; null: none. `devices` are on the data fabric's loop, and so
  /// is `windows`, by which other nodes' arenas are read; null: not.
  ClientCore(Fabric& control, Fabric& data, ClientConfig config, std::string host,
             std::unique_ptr<ArenaOpener> opener = nullptr,
             std::vector<std::unique_ptr<DeviceLane>> devices = {},
             std::unique_ptr<Windows> windows = nullptr);
  ~ClientCore();
  ClientCore(const ClientCore&) = delete;
  ClientCore& operator=(const ClientCore&) = delete;

  // ---- control loop

  /// Connects and opens a session, within `connect_timeout`. After a failure there is nothing to
  /// stop.
  Task<Result<>> start();
  /// Waits for transfers under way (bounded by their deadlines), gives pins back, closes. The data
  /// loop must be running, or be turned.
  Task<> stop();
  [[nodiscard]] bool connected() const noexcept { return session_.here(); }
  /// For tests and the simulator.
  [[nodiscard]] ClusterSession& cluster() noexcept { return session_; }

  Task<Result<OpenedNamespace>> open_namespace(Namespace space, ReplicaOptions replicas = {});
  Task<Result<Match>> lookup(OpenedNamespace space, std::vector<BlockHash> hashes,
                             LookupOptions options);
  /// The bytes of `Client::grant`.
  Task<Result<std::vector<std::byte>>> grant(std::shared_ptr<const Match::State> match,
                                             std::chrono::milliseconds valid);
  Task<Result<Match>> adopt(std::vector<std::byte> grant);
  Task<Result<OpenedNamespace>> clear(OpenedNamespace space);
  Task<Result<std::map<std::string, std::uint64_t>>> server_stats();

  // ---- data loop

  /// `items` are copied; their pieces are the caller's until this ends. `cancel` may be null.
  Task<Result<TransferReport>> fetch(std::shared_ptr<const Match::State> match, FetchList items,
                                     TransferOptions options, std::shared_ptr<CancelToken> cancel);
  Task<Result<TransferReport>> store(OpenedNamespace space, StoreList list, TransferOptions options,
                                     std::shared_ptr<CancelToken> cancel);

  /// How blocks come to the host on their way to a GPU, if not the checked way alone. Before
  /// `start`.
  void set_host_fetch(HostFetch fetch) { host_fetch_ = std::move(fetch); }
  /// What page-locks mapped arenas for the GPUs. Before `start`.
  void set_pinner(std::unique_ptr<ArenaPinner> pinner) { mapped_.set_pinner(std::move(pinner)); }
  /// The checked way to the host, inside a `fetch`.
  Task<Result<TransferReport>> fetch_to_host(std::shared_ptr<const Match::State> match,
                                             FetchList items, TransferOptions options,
                                             std::shared_ptr<CancelToken> cancel);

  /// `Client::share`. `put` makes each block known.
  Task<Result<TransferReport>> share(OpenedNamespace space, StoreList list, TransferOptions options,
                                     std::shared_ptr<CancelToken> cancel,
                                     std::function<Result<>(SharedBlock)> put);

  /// `Client::reserve` and `seal`.
  Task<Result<std::vector<Reservation>>> reserve(OpenedNamespace space,
                                                 std::vector<ReserveItem> items,
                                                 std::chrono::milliseconds valid);
  Task<Result<TransferReport>> seal(std::vector<WrittenBlock> blocks,
                                    std::chrono::milliseconds timeout);

  /// The hardware of a lane ("rdma") is down: what goes over it fails now.
  void lane_down(std::string_view lane) { links_.abandon_lane(lane); }

  /// Stores that nobody waits for: `take` and `withdraw` here, `admit` and `stats` on any thread.
  [[nodiscard]] BackgroundStore& background() noexcept { return background_; }

  // ---- any thread

  [[nodiscard]] Loop& control_loop() noexcept { return control_.loop(); }
  [[nodiscard]] Loop& data_loop() noexcept { return data_.loop(); }
  [[nodiscard]] PinDesk& pin_desk() noexcept { return *desk_; }
  /// What of this host's arenas is mapped now; null if nothing is.
  [[nodiscard]] std::shared_ptr<const ArenaSet> arenas() const { return mapped_.arenas(); }
  [[nodiscard]] const ClientConfig& config() const noexcept { return config_; }
  /// Null: the host's memory. `invalid_argument` for a GPU that the client did not open.
  [[nodiscard]] Result<DeviceLane*> lane_of(const PieceMemory& memory) const;

 private:
  using KeysById = std::map<NamespaceId, std::shared_ptr<const KeyMaker>>;

  void on_here(const wire::SessionProof& proof) override;
  void on_away() override;
  void on_nodes(const std::vector<wire::NodeEntry>& nodes) override;

  /// Waits until the data loop has done all that it was told so far.
  Task<> settle_data();
  Task<> drain_transfers(Completion& drained);
  Task<> learn_nodes(std::shared_ptr<const Match::State> state, TimePoint deadline);
  /// Data loop: asks for the list of nodes, and waits until it is here.
  Task<> renew_nodes(TimePoint deadline);
  [[nodiscard]] BackgroundStore::Store background_call();
  /// Whether the shard has been asked what it knows of a store.
  enum class Asked : std::uint8_t { no, yes };
  static constexpr std::uint64_t kNoProbe = std::numeric_limits<std::uint64_t>::max();
  Task<Result<TransferReport>> store_from_host(OpenedNamespace space, StoreList list,
                                               TransferOptions options,
                                               std::shared_ptr<CancelToken> cancel, Asked asked);
  /// Which blocks of a store the shard knows already; none if that is not worth asking for.
  Task<std::vector<bool>> ask_known(OpenedNamespace space, const StoreList& list,
                                    TimePoint deadline);
  [[nodiscard]] TakesStraight takes_straight(OpenedNamespace space);
  Task<> refresh_for_data(TimePoint deadline, Completion& renewed);
  /// Data loop: WritableOf.
  Task<std::shared_ptr<const WritableArena>> writable(NodeId node);
  Task<> want_writable_for_data(NodeId node, Completion& asked);
  /// Data loop: AskParts.
  void ask_parts(wire::ProbeParts request, TimePoint deadline, wire::ProbedParts& answer,
                 Completion& answered);
  Task<> probe_for_data(wire::ProbeParts request, TimePoint deadline, wire::ProbedParts& answer,
                        Completion& answered);
  void take_released();
  void take_given_back();
  [[nodiscard]] AskParts parts_call();
  [[nodiscard]] TimePoint deadline_of(Loop& loop, std::chrono::milliseconds timeout) const;
  [[nodiscard]] Result<> transfer_begins();
  void transfer_ended() noexcept;

  Fabric& control_;
  Fabric& data_;
  const ClientConfig config_;
  const std::shared_ptr<PinDesk> desk_;
  const std::shared_ptr<ReservationDesk> reservations_;

  // control loop
  ClusterSession session_;
  KeysById keys_;
  MappedNodes mapped_;
  bool started_ = false;

  // data loop
  const std::vector<std::unique_ptr<DeviceLane>> devices_;
  HostFetch host_fetch_;
  NodeLinks links_;
  const std::unique_ptr<Windows> windows_;
  std::unique_ptr<NodeWindows> node_windows_;  ///< null without windows
  KeysById data_keys_;
  wire::SessionProof proof_;
  bool server_here_ = false;
  bool draining_ = false;
  std::uint32_t transfers_ = 0;
  std::uint32_t fetches_ = 0;  ///< of these
  Signal drain_signal_;
  BackgroundStore background_;
};

}  // namespace membrain
