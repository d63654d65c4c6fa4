// The client: what an engine links to reuse every other engine's KV-cache blocks.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "membrain/block.h"
#include "membrain/group.h"
#include "membrain/layout.h"
#include "membrain/match.h"
#include "membrain/reservation.h"
#include "membrain/result.h"
#include "membrain/view.h"

namespace membrain {

namespace detail {
struct OperationState;
}

/// How a client runs. Plain values; `Client::open` checks them.
struct ClientConfig {
  /// The metadata server's first contact; of several servers their addresses, between commas, at
  /// most 16: whichever leads is used, and when it dies the next that does.
  std::string server = "127.0.0.1:9201";
  /// the cluster's shared secret; empty on an open, loopback cluster
  std::string secret;
  std::string tenant = "default";
  std::string label;  ///< for people: who this is, e.g. "engine 3"

  /// `own`: the client starts a control thread ("mb-control") and a data thread ("mb-data"), which
  /// also computes checksums. `caller`: nothing happens but inside `poll()` and blocking calls: it
  /// saves two thread hops an operation.
  enum class Threads : std::uint8_t { own, caller } threads = Threads::own;

  std::chrono::milliseconds connect_timeout{5000};
  std::chrono::milliseconds default_timeout{10000};  ///< of an operation that names none
  std::uint32_t fetch_window_blocks = 4;             ///< blocks under way from one node at once
  /// hash what arrived and compare with the catalog's checksum
  bool verify_checksums = true;
  /// read and write blocks of nodes on this host where they lie, if a node of the same user lets us
  bool mapped = true;
  /// read blocks of nodes that allow it (`membrain node --one-sided-reads`) by RDMA hardware alone,
  /// without a word to the node: for clusters whose engines may all see each other's blocks
  bool one_sided_reads = false;
  /// threads ("mb-copy", from the first use on) on which `fetch_async` copies such blocks; 0: it
  /// asks the node. With `Threads::caller` it copies inside the call.
  std::uint32_t copy_threads = 1;

  /// a store of this many bytes or more first asks the server what is there already
  std::uint64_t probe_store_bytes = 512 * 1024;
  /// what `offer` may keep waiting; beyond it offers are shed
  std::uint64_t background_store_bytes = std::uint64_t{256} << 20;

  /// GPUs, as CUDA counts them in this process, whose memory transfers may name. They are opened
  /// with the client, which takes some hundred milliseconds each.
  std::vector<int> devices;
  std::uint32_t staging_slots = 4;  ///< transfers that are at a GPU at once
  /// pinned host memory and GPU memory of each of them; no block may be larger
  std::uint64_t staging_slot_bytes = std::uint64_t{8} << 20;
  /// Page-locks the mapped arenas of this host's nodes for the GPUs, in the background (some
  /// hundred milliseconds a GiB): then a GPU reads blocks out of them by itself, and the host's
  /// processors touch no byte. A GPU that locks nothing which is mapped to be read only has it
  /// mapped as stores in place do; where a node lends no slots, blocks go through staging slots.
  bool pin_arenas = false;

  /// where other engines fetch blocks that this one shares from its GPUs (`Client::share`), e.g.
  /// "10.0.0.7:0" (port 0: any); empty: it shares nothing
  std::string share_listen;
  std::string share_advertise;    ///< the same as others reach it; empty: as listened on
  std::uint32_t share_slots = 2;  ///< staging slots of each GPU for that alone
};

/// How many nodes are to keep a block of a namespace, and where. It is no part of the namespace's
/// name; of what several clients ask for the most counts. Further copies are made by the nodes, in
/// the background.
struct ReplicaOptions {
  enum class Zones : std::uint8_t {
    standard,  ///< as the server was told
    any,       ///< on different nodes, of different hosts where there are several
    spread,    ///< and in different zones (`membrain node --zone`) where there are several
  };
  std::uint8_t replicas = 0;  ///< 1 to 4; 0: as the server was told
  Zones zones = Zones::standard;
};

/// One range of one block, and where its bytes go: the concatenation of `into`, whose sizes add up
/// to `length`.
struct FetchItem {
  std::uint32_t block = 0;  ///< index into the lookup's hashes
  std::uint16_t part = 0;
  std::uint32_t offset = 0;  ///< bytes into the part
  std::uint32_t length = 0;  ///< bytes; 0: to the end of the part
  std::vector<Piece> into;
};

/// One block to keep: the concatenation of `from`.
struct StoreItem {
  BlockHash hash;
  BlockHash parent;         ///< hash of the block before it; empty for the first
  std::uint32_t depth = 0;  ///< blocks before it in the prompt
  std::uint16_t part = 0;
  std::uint8_t priority = 0;  ///< higher stays longer
  std::vector<ConstPiece> from;
};

/// What became of one item. `ok` or the reason: for a fetch a miss (recompute), for a store not
/// kept.
struct ItemOutcome {
  bool ok = false;
  bool duplicate = false;      ///< store: it was there already, which is as good
  Errc why = Errc::not_found;  ///< when not ok
};

struct TransferOptions {
  std::chrono::milliseconds timeout{0};  ///< 0: the client's default
  PieceMemory memory = {};               ///< where the pieces, or the layout's planes, lie
  /// Told of each item as it ends, before the operation does; never of two at once. On the data
  /// loop's thread (or inside `poll`), or the one that copies: the caller of `fetch`, or a copy
  /// thread. It must not block and must not call the client.
  std::function<void(std::size_t item, const ItemOutcome& outcome)> on_item;
};

/// What a fetch did besides asking the best source of each block once. In blocks.
struct Detours {
  std::uint64_t retried = 0;       ///< asked for elsewhere after a failure
  std::uint64_t hedged = 0;        ///< asked for elsewhere too, as the first node was silent
  std::uint64_t hedge_won = 0;     ///< of these, came from there
  std::uint64_t circuit_open = 0;  ///< missed at once: nodes that fail are left alone for a while
  std::uint64_t withheld = 0;      ///< missed, as retries must stay few beside what goes well

  Detours& operator+=(const Detours& other) noexcept {
    retried += other.retried;
    hedged += other.hedged;
    hedge_won += other.hedge_won;
    circuit_open += other.circuit_open;
    withheld += other.withheld;
    return *this;
  }
};

struct TransferReport {
  std::vector<ItemOutcome> items;                   ///< as many as were asked for, in their order
  std::uint64_t bytes = 0;                          ///< moved and accepted
  std::map<std::string, std::uint64_t> lane_bytes;  ///< by lane: "tcp", "shm", "mapped", ...
  Detours detours;                                  ///< of a fetch
  [[nodiscard]] std::size_t ok_count() const noexcept;
};

/// What became of what was offered (`Client::offer`), in items, since the client was opened.
struct BackgroundStats {
  std::uint64_t queued_items = 0;  ///< waiting, or under way
  std::uint64_t queued_bytes = 0;  ///< of these
  std::uint64_t stored = 0;
  std::uint64_t duplicates = 0;  ///< were there already
  std::uint64_t shed = 0;        ///< did not fit
  std::uint64_t failed = 0;      ///< not kept, for another reason
};

/// An operation under way. Destroying it does not stop it (destinations must still live until it is
/// reported): `cancel` and `wait` do.
///
/// Threads  Any one thread at a time.
template <class T>
class Operation {
 public:
  explicit Operation(std::shared_ptr<detail::OperationState> state) noexcept
      : state_(std::move(state)) {}

  [[nodiscard]] bool done() const noexcept;
  /// Waits for the outcome. It comes at the latest one second after the operation's deadline, when
  /// no byte can land in a destination any more. Once.
  Result<T> wait();
  /// Takes it back; `wait` then yields `cancelled` (or the outcome, if that was faster) when
  /// destinations are quiet.
  void cancel() noexcept;
  /// Calls `told` when it is done, once: at once if it is already, else on the thread that ends it.
  /// It must not block and must not call the client. One at a time: the last one counts.
  void on_done(std::function<void()> told);

 private:
  std::shared_ptr<detail::OperationState> state_;
};

/// A client of one Membrain cluster.
///
///     auto client = Client::open(config).value();
///     auto space  = client->open_namespace(my_namespace).value();
///     Match match = client->lookup(space, hashes).value();
///     client->fetch(match, items).value();        // then compute the rest, and
///     client->store(space, blocks).value();
///
/// Ownership  Owns its loops, threads and connections. Buffers are the caller's; they stay valid
///            and, as destinations, untouched until the operation is reported.
/// Threads    Any thread may call; with `Threads::caller` one thread only. Operations run side by
///            side.
/// Errors     While the cluster is away lookups answer `unavailable` at once and the engine goes
///            on; the client reconnects by itself. Nothing throws.
/// Cost       A lookup is one message each way; a fetch one message per node and the data.
class Client {
 public:
  /// Connects and opens a session. `unavailable` with nobody there or without a GPU that is asked
  /// for (the log says what is missing), `denied` for a wrong secret.
  static Result<std::unique_ptr<Client>> open(ClientConfig config);
  /// Drains what is under way (bounded by its deadlines), gives pins back, closes.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// Opens a namespace. Its tenant is this client's, whatever `space.tenant` says.
  Operation<OpenedNamespace> open_namespace_async(const Namespace& space,
                                                  ReplicaOptions replicas = {});
  Result<OpenedNamespace> open_namespace(const Namespace& space, ReplicaOptions replicas = {});

  /// Asks what is there. `stale` when somebody has cleared the namespace since it was opened: open
  /// it again. A window lookup fits one message (about 4,000 blocks x parts).
  Operation<Match> lookup_async(const OpenedNamespace& space, std::span<const BlockHash> hashes,
                                const LookupOptions& options = {});
  Result<Match> lookup(const OpenedNamespace& space, std::span<const BlockHash> hashes,
                       const LookupOptions& options = {});
  /// Bit i: block i (all `parts`) is there now. Pins nothing.
  Result<std::vector<bool>> contains(const OpenedNamespace& space,
                                     std::span<const BlockHash> hashes, std::uint16_t parts = 1);

  /// Bytes with which another process may fetch what `match`, of this client, pins (`adopt`), for
  /// `valid`. The pin stays the Match's: keep it until the other process is done. One message for
  /// each message that the lookup took. At most Match::kMaxGrantBytes (`out_of_capacity`).
  Operation<std::vector<std::byte>> grant_async(const Match& match,
                                                std::chrono::milliseconds valid);
  Result<std::vector<std::byte>> grant(const Match& match, std::chrono::milliseconds valid);
  /// A Match from another process's grant. Releasing it does nothing. `corrupt` or `denied` for
  /// bytes that are not a grant. Asks the server only for nodes that this client does not know.
  Operation<Match> adopt_async(std::span<const std::byte> grant);
  Result<Match> adopt(std::span<const std::byte> grant);

  /// Fetches from `match`. An item that fails does not disturb the others; a failed one is retried
  /// on another replica, then reported as a miss. The Match must outlive the operation. What a node
  /// on this host holds is copied straight from its memory, in `fetch` by the calling thread.
  ///
  /// To a GPU, blocks come into pinned memory, are verified there, and are copied over together;
  /// nothing but whole, verified blocks reaches it. Should the GPU hang in such a copy, the
  /// operation ends no sooner than the copy.
  Operation<TransferReport> fetch_async(const Match& match, std::span<const FetchItem> items,
                                        TransferOptions options = {});
  Result<TransferReport> fetch(const Match& match, std::span<const FetchItem> items,
                               TransferOptions options = {});

  /// Views of `items` (whose `into` is not looked at) in the memory of a node on this host: no
  /// copy, no message, no other thread. All of them or none: `unavailable` if one is not on a node
  /// that is mapped (fetch them then), `not_found`, or `invalid_argument`. With `verify_checksums`
  /// `View::finish` hashes. The Match must outlive that.
  Result<std::vector<View>> fetch_view(const Match& match, std::span<const FetchItem> items) const;

  /// Keeps blocks that are not there yet. Never waits for space: an item is `out_of_capacity` then.
  /// From a GPU, blocks are gathered into pinned memory once `PieceMemory::after` has come, on a
  /// stream of the client's own: the engine's streams never wait.
  Operation<TransferReport> store_async(const OpenedNamespace& space,
                                        std::span<const StoreItem> items,
                                        TransferOptions options = {});
  Result<TransferReport> store(const OpenedNamespace& space, std::span<const StoreItem> items,
                               TransferOptions options = {});

  /// Room for blocks in the memory of nodes on this host, one Reservation per item: granted, a
  /// duplicate (on any node), or refused. `valid` (0: the client's default; at most a minute) is
  /// how long they may be sealed. `unavailable` without a node of this host that lets us write:
  /// store then.
  Result<std::vector<Reservation>> reserve(const OpenedNamespace& space,
                                           std::span<const ReserveItem> items,
                                           std::chrono::milliseconds valid = {});
  /// Keeps what was written into reservations, as `store` does: hashed by the calling thread, then
  /// checked and published by the node. Ends all of them, whatever the report says: `stale` for one
  /// that was over, `invalid_argument` for one that was never granted, or given to `seal` before.
  Result<TransferReport> seal(std::vector<Reservation> written,
                              std::chrono::milliseconds timeout = {});

  /// Checks a layout, once, so that calls by block ids need no descriptors: `invalid_argument` with
  /// the reason for pieces that are empty, overlap or lie beyond all memory.
  static Result<RegisteredLayout> register_layout(const Layout& layout);
  /// Fetches blocks of `match` into a layout, all planes or some. As `fetch`; also
  /// `invalid_argument` before anything moves for ids or planes that the layout does not have, and
  /// for an id that comes twice. Items of the report are in the order of the ids.
  Operation<TransferReport> fetch_async(const Match& match, const RegisteredLayout& into,
                                        const LayoutFetch& fetch, TransferOptions options = {});
  Result<TransferReport> fetch(const Match& match, const RegisteredLayout& into,
                               const LayoutFetch& fetch, TransferOptions options = {});
  /// Stores blocks from a layout. As `store`.
  Operation<TransferReport> store_async(const OpenedNamespace& space, const RegisteredLayout& from,
                                        const LayoutStore& blocks, TransferOptions options = {});
  Result<TransferReport> store(const OpenedNamespace& space, const RegisteredLayout& from,
                               const LayoutStore& blocks, TransferOptions options = {});

  /// Stores in the background: returns at once, whatever the cluster does. The blocks' memory is
  /// lent until `done` is called, once, on the data loop's thread (or inside `poll`); like
  /// `on_item`, it must not block and must not call the client. Offers are stored in their order, a
  /// little at a time, and stand aside for fetches. Those that wait when the client is destroyed
  /// are given back as `cancelled`. Returns the offer's number.
  ///
  /// Errors  At once, without a call of `done`: `out_of_capacity` when the offer was shed because
  ///         it would exceed `background_store_bytes` or 65,536 blocks that wait;
  ///         `invalid_argument` for what `store` refuses.
  Result<std::uint64_t> offer(const OpenedNamespace& space, std::vector<StoreItem> items,
                              std::function<void(const TransferReport&)> done = {},
                              PieceMemory memory = {});
  /// The same with blocks of a layout, by their ids; also `invalid_argument` for what `store`
  /// refuses of them.
  Result<std::uint64_t> offer(const OpenedNamespace& space, const RegisteredLayout& from,
                              const LayoutStore& blocks,
                              std::function<void(const TransferReport&)> done = {},
                              PieceMemory memory = {});
  /// Takes an offer back if it has not ended; the memory comes back with `done`, not with the call.
  void withdraw(std::uint64_t offer);
  [[nodiscard]] BackgroundStats background_stats() const;

  /// Lets other engines fetch blocks from where they lie on a GPU (`options.memory`), until
  /// `unshare`. Their checksums are made first, once `PieceMemory::after` has come; then the server
  /// is told. Nothing is kept for them: no pin holds a shared block, and a store of it is no
  /// duplicate. A peer's fetch copies it on a stream of the client's own and sends the copy.
  ///
  /// The blocks must not change while they are shared. The report says what is shared now.
  ///
  /// Errors  As `store`; also `unavailable` without `ClientConfig::share_listen`. An item that is
  ///         shared already is `invalid_argument`.
  Operation<TransferReport> share_async(const OpenedNamespace& space, const RegisteredLayout& from,
                                        const LayoutStore& blocks, TransferOptions options);
  Result<TransferReport> share(const OpenedNamespace& space, const RegisteredLayout& from,
                               const LayoutStore& blocks, TransferOptions options);
  /// Ends that for these blocks of a layout; ids that are not shared do not matter. When it
  /// returns, nothing reads them and nobody will: they may be written to. It waits for the GPU to
  /// end copies under way, never for a peer, the network or the server.
  Result<> unshare(const RegisteredLayout& from, std::span<const std::uint32_t> ids);

  /// Joins a group: listens for its members, which are connected when blocks first go their way.
  /// Takes some milliseconds of the data loop.
  /// `invalid_argument`, or what listening fails with.
  Result<Group> join(const GroupConfig& config);
  /// Brings the root's blocks to every member of a group: they go from member to member, so that
  /// the root sends each but once (or a few times, when there are few). Every member calls it,
  /// in the same order of calls; one replication of a group runs at a time. Every member compares
  /// checksums before it passes a block on. Nothing of it touches server or nodes. With
  /// GroupConfig::nccl_device at every member, blocks on those GPUs go by NCCL first, for at most
  /// half of the time; each member hashes what comes and keeps what is right.
  ///
  /// The report of the root says which blocks every member has, that of a member which ones it has.
  /// `on_item` is not used.
  ///
  /// Errors  `timed_out` when the root's blocks were not offered in time; `invalid_argument` for
  ///         what does not fit the layout, or when the root means other blocks. A call that is
  ///         refused counts as one: the next calls of all members belong together again. After a
  ///         member was restarted all of them join anew.
  Operation<TransferReport> replicate_to_async(const Group& group, const RegisteredLayout& layout,
                                               const Replication& blocks,
                                               TransferOptions options = {});
  Result<TransferReport> replicate_to(const Group& group, const RegisteredLayout& layout,
                                      const Replication& blocks, TransferOptions options = {});

  /// Forgets every block of a namespace, for everyone. Returns the namespace in its new era.
  Operation<OpenedNamespace> clear_async(const OpenedNamespace& space);
  Result<OpenedNamespace> clear(const OpenedNamespace& space);

  /// The server's counters by name.
  Result<std::map<std::string, std::uint64_t>> server_stats();

  /// With `Threads::caller`: does what can be done now, on this thread; true if anything happened.
  /// Never blocks.
  bool poll();

 private:
  struct Runtime;
  explicit Client(std::unique_ptr<Runtime> runtime) noexcept;
  std::unique_ptr<Runtime> runtime_;
};

}  // namespace membrain
