// Every message of the protocol as a plain struct with its codec. docs/protocol.md says who sends
// what, and why.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/codec.h"
#include "base/ids.h"
#include "base/mac.h"
#include "membrain/result.h"
#include "protocol/frame.h"

namespace membrain::wire {

// Bounds. Every list on the wire has one; a longer list is refused as corrupt.
inline constexpr std::size_t kMaxTextBytes = 256;    ///< names, addresses, labels
inline constexpr std::size_t kMaxReasonBytes = 512;  ///< Refused
/// keys of one Lookup, all sections together
inline constexpr std::size_t kMaxKeys = 4096;
inline constexpr std::size_t kMaxSections = 16;      ///< namespaces (KV groups) of one Lookup
inline constexpr std::size_t kMaxParts = 64;         ///< parts of a block
inline constexpr std::size_t kMaxReplicas = 4;       ///< replicas named per part in an answer
inline constexpr std::size_t kMaxLocations = 4096;   ///< locations of one Found
inline constexpr std::size_t kMaxFetchItems = 1024;  ///< items of one Fetch
/// items of one Data (its frame fits kMaxFrameWithPayloadBytes)
inline constexpr std::size_t kMaxDataItems = 256;
inline constexpr std::size_t kMaxStoreItems = 32;      ///< items of one Store (likewise)
inline constexpr std::size_t kMaxReserveItems = 256;   ///< items of one ReserveSlots or SealSlots
inline constexpr std::size_t kMaxPublishItems = 1024;  ///< items of one Publish or Report
inline constexpr std::size_t kMaxFreeItems = 4096;     ///< items of one FreeSlots or Freed
inline constexpr std::size_t kMaxClasses = 128;        ///< size classes of a node
inline constexpr std::size_t kMaxNodes = 1024;         ///< nodes of one NodeList
inline constexpr std::size_t kMaxUnpinItems = 1024;    ///< lookups of one Unpin
inline constexpr std::size_t kMaxWindowBytes = 4096;   ///< of WindowOpened
inline constexpr std::size_t kMaxCounters = 256;       ///< counters of one StatsReply

/// Any request may be answered with this.
struct Refused {
  static constexpr Type kType = Type::refused;
  Errc code = Errc::invalid_argument;
  std::string reason;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// An answer, or a request, without a body.
template <Type type>
struct Empty {
  static constexpr Type kType = type;
  void encode(Writer&) const {}
  void decode(Reader&) {}
};

// ---- client -> shard
// ------------------------------------------------------------------------------------------

/// Opens a session. `proof` = HMAC(tenant key, "membrain hello" | tenant | connection binding).
/// `resume` names the session that this client had with this shard before, if any: the answer names
/// a new one, and the old one's pins are dropped once the client has asserted its own again (Lookup
/// with `LookupRule::all`).
struct Hello {
  static constexpr Type kType = Type::hello;
  std::string tenant;
  Digest proof{};
  SessionId resume;
  std::string label;  ///< for people: who this is, e.g. "vllm rank 3"
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// What a session shows to a node: the node checks `mac` with the shard's grant key (`Accepted`).
struct SessionProof {
  SessionId session;
  Epoch epoch;
  LookupId grant;  ///< 0: the session itself; else: a grant of that lookup
  /// of a grant, on the shard's monotonic clock; 0: the session's life
  std::uint64_t expires_ms = 0;
  MacTag mac{};
  void encode(Writer& out) const;
  void decode(Reader& in);
};

struct Welcome {
  static constexpr Type kType = Type::welcome;
  SessionProof proof;             ///< names session and epoch
  std::uint32_t ttl_ms = 0;       ///< a session that is silent for longer loses its pins
  std::uint32_t map_version = 0;  ///< of the shard map
  std::uint32_t max_keys = 0;     ///< per Lookup
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// Where the replicas of a block are to be.
enum class ZoneRule : std::uint8_t {
  standard,  ///< as the server was told
  any,       ///< on different nodes, of different hosts where there are several
  spread,    ///< and in different zones where there are several
};
inline constexpr ZoneRule kLastZoneRule = ZoneRule::spread;

struct OpenNamespace {
  static constexpr Type kType = Type::open_namespace;
  Digest digest{};            ///< `digest_of(Namespace)`
  Digest family{};            ///< `family_of(Namespace)`
  std::string label;          ///< for people
  std::uint8_t replicas = 0;  ///< wanted of each block; 0: as the server was told
  ZoneRule zones = ZoneRule::standard;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

struct NamespaceOpened {
  static constexpr Type kType = Type::namespace_opened;
  NamespaceId id;
  Era era;
  /// the same family is in use with another hash seed: most likely a mistake
  bool other_seed = false;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

struct Heartbeat {
  static constexpr Type kType = Type::heartbeat;
  SessionId session;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

struct Alive {
  static constexpr Type kType = Type::alive;
  std::uint32_t map_version = 0;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

enum class LookupMode : std::uint8_t { probe, pin };
enum class LookupRule : std::uint8_t {
  prefix,  ///< the longest prefix of which every block is there
  window,  ///< the longest prefix whose last `window` blocks are there (sliding-window attention)
  all,     ///< every block that is there
};

struct LookupSection {
  NamespaceId space;
  LookupRule rule = LookupRule::prefix;
  std::uint32_t window_blocks = 0;  ///< for LookupRule::window
  std::uint16_t parts = 1;          ///< a hit only when parts 0 .. parts-1 all exist
  std::vector<BlockKey> keys;       ///< in prompt order
};

/// A lookup id never repeats within a session; a repeated request changes nothing and is answered
/// again.
struct Lookup {
  static constexpr Type kType = Type::lookup;
  SessionId session;
  LookupId lookup;
  LookupMode mode = LookupMode::probe;
  std::vector<LookupSection> sections;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

struct FoundLocation {
  std::uint32_t block = 0;  ///< index into the section's keys
  std::uint16_t part = 0;
  Tier tier = Tier::host;
  Location at;
};

struct FoundSection {
  Era era;
  std::uint32_t prefix_blocks = 0;  ///< by the section's rule
  /// bit i (of byte i/8, low first): block i is there, all asked parts
  std::vector<std::uint8_t> bitmap;
  /// of pinned blocks, by block, then part; several replicas follow each other
  std::vector<FoundLocation> locations;
};

struct Found {
  static constexpr Type kType = Type::found;
  LookupId lookup;
  std::vector<FoundSection> sections;  ///< as many as asked
  void encode(Writer& out) const;
  void decode(Reader& in);
};

struct UnpinItem {
  LookupId lookup;
  NamespaceId space;  ///< of `keys`; 0 with no keys: everything that this lookup pins
  std::vector<BlockKey> keys;
};

/// Acknowledged; resent until it is. One that overtakes its Lookup leaves a tombstone.
struct Unpin {
  static constexpr Type kType = Type::unpin;
  SessionId session;
  std::vector<UnpinItem> items;
  void encode(Writer& out) const;
  void decode(Reader& in);
};
using Unpinned = Empty<Type::unpinned>;

/// Asks for a proof with which another process may fetch what `lookup` pins. The pin stays this
/// session's.
struct Grant {
  static constexpr Type kType = Type::grant;
  SessionId session;
  LookupId lookup;
  std::uint32_t valid_ms = 0;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

struct Granted {
  static constexpr Type kType = Type::granted;
  SessionProof proof;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

struct Clear {
  static constexpr Type kType = Type::clear;
  SessionId session;
  NamespaceId space;
  Era era;  ///< the one that ends: a repeated Clear of it changes nothing
  void encode(Writer& out) const;
  void decode(Reader& in);
};

struct Cleared {
  static constexpr Type kType = Type::cleared;
  Era era;  ///< the new one
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// One part of a block: what a store would store.
struct PartName {
  BlockKey key;
  std::uint16_t part = 0;
};

/// Asks, before bytes are moved, which block parts the shard knows. Pins nothing, changes nothing.
struct ProbeParts {
  static constexpr Type kType = Type::probe_parts;
  SessionId session;
  NamespaceId space;
  Era era;  ///< in another one nothing is known
  std::vector<PartName> parts;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

struct ProbedParts {
  static constexpr Type kType = Type::probed_parts;
  std::vector<std::uint8_t> bitmap;  ///< bit i (of byte i/8, low first): part i is known
  void encode(Writer& out) const;
  void decode(Reader& in);
};

using Stats = Empty<Type::stats>;

struct Counter {
  std::string name;
  std::uint64_t value = 0;
};
struct StatsReply {
  static constexpr Type kType = Type::stats_reply;
  std::vector<Counter> counters;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

using Nodes = Empty<Type::nodes>;

/// Of a NodeEntry, without its texts.
inline constexpr std::size_t kNodeEntryBytes = 42;
inline constexpr std::size_t kNodeEntryMoreBytes = 10;  ///< of these, in the list that follows
struct NodeEntry {
  NodeId node;
  Incarnation incarnation;
  bool alive = false;
  std::string address;  ///< of its data loop's first contact
  std::string host;     ///< equal text = the same host
  std::uint64_t capacity_bytes = 0;
  std::uint64_t free_bytes = 0;  ///< as of its last heartbeat
  std::string door;        ///< where processes of its host knock to map its arena; empty: nowhere
  Tier tier = Tier::host;  ///< of its replicas. An engine that lends blocks takes none
  std::string zone;        ///< equal text = the same rack or availability zone
  std::uint64_t load_bytes = 0;  ///< moved in a second, of late
};
/// Zones and loads follow the entries as a list of their own: older ends do not know them.
struct NodeList {
  static constexpr Type kType = Type::node_list;
  std::vector<NodeEntry> nodes;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

// ---- client -> node
// -------------------------------------------------------------------------------------------

struct FetchItem {
  NamespaceId space;
  BlockKey key;  ///< knowing it is part of the right to read it
  std::uint16_t part = 0;
  SlotId slot;
  Generation generation;
  std::uint32_t offset = 0;  ///< bytes into the block part
  std::uint32_t length = 0;  ///< bytes
  std::uint32_t tag = 0;     ///< repeated in Data: which destination
};

struct Fetch {
  static constexpr Type kType = Type::fetch;
  SessionProof proof;
  std::uint32_t deadline_ms = 0;  ///< from now; unsent items are dropped after it
  std::vector<FetchItem> items;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

enum class ItemStatus : std::uint8_t {
  ok,           ///< Fetch: the bytes are in the payload. Store, Publish: stored
  duplicate,    ///< Store, Publish: it is there already: as good as stored
  full,         ///< no free slot: not stored
  stale,        ///< Fetch: the generation is another
  not_found,    ///< Fetch: no such slot, key or range
  old_era,      ///< Store, Publish: the namespace has been cleared since
  too_large,    ///< no size class holds it
  denied,       ///< the proof does not cover it
  unavailable,  ///< the shard could not be asked in time
  cancelled,    ///< Fetch: the deadline or a CancelFetch came first
  corrupt,      ///< Fetch: the slot's bytes failed their check
  refused,      ///< Publish, Report: free the slot
};
inline constexpr ItemStatus kLastItemStatus = ItemStatus::refused;
/// What one that is not ok means to whoever wanted the bytes.
[[nodiscard]] Errc why_missing(ItemStatus status) noexcept;

struct DataItem {
  std::uint32_t tag = 0;
  ItemStatus status = ItemStatus::ok;
  std::uint32_t length = 0;  ///< bytes of it in the payload: 0 unless ok
};

/// Some items of a Fetch (the header's `op` is the Fetch's). The payload is the concatenation of
/// the ok ones. Every item comes in exactly one Data.
struct Data {
  static constexpr Type kType = Type::data;
  std::vector<DataItem> items;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// Stops what is unsent of a Fetch; its items come back as `cancelled`. Not answered.
struct CancelFetch {
  static constexpr Type kType = Type::cancel_fetch;
  OpId fetch;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

enum class StoreIntent : std::uint8_t {
  fresh,    ///< a block that was computed: a second copy is a duplicate
  replica,  ///< a wanted further copy
};

/// What the catalog is told of a block besides its place.
struct BlockMeta {
  NamespaceId space;
  Era era;
  BlockKey key;
  BlockKey parent;          ///< the block before it in the prompt; none for the first
  std::uint32_t depth = 0;  ///< blocks before it in the prompt
  std::uint16_t part = 0;
  std::uint8_t priority = 0;  ///< higher stays longer (0: default)
  StoreIntent intent = StoreIntent::fresh;
  void encode(Writer& out) const;
  void decode(Reader& in);
  bool operator==(const BlockMeta&) const = default;
};

struct StoreItem {
  BlockMeta meta;
  std::uint32_t length = 0;  ///< bytes in the payload
  Checksum checksum;         ///< as the sender has it: what differs is `corrupt`, not kept
};

/// Blocks to keep; the payload is their concatenation. If-absent; never waits for space.
struct Store {
  static constexpr Type kType = Type::store;
  SessionProof proof;
  std::uint32_t deadline_ms = 0;  ///< from now
  std::vector<StoreItem> items;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// Sent when every item is sealed and published, or has failed.
struct Stored {
  static constexpr Type kType = Type::stored;
  std::vector<ItemStatus> statuses;  ///< as many as items
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// One use of a slot.
struct SlotRef {
  SlotId slot;
  Generation generation;
  bool operator==(const SlotRef&) const = default;
};

struct ReserveItem {
  BlockMeta meta;
  std::uint32_t length = 0;  ///< bytes
};

/// Asks for slots that a writer of this host fills in place. If-absent; never waits for space. A
/// reservation ends with `SealSlots` or `GiveBackSlots`, else it is lost at the deadline, or with
/// its connection: nothing can be sealed in it any more, and the slot stays out of use until it is
/// given back, or the writer's mapping of the arena is gone.
struct ReserveSlots {
  static constexpr Type kType = Type::reserve_slots;
  SessionProof proof;
  std::uint32_t deadline_ms = 0;  ///< from now
  WriterId writer;                ///< as the node's door named it
  std::vector<ReserveItem> items;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

struct ReservedItem {
  ItemStatus status = ItemStatus::unavailable;
  SlotRef at;  ///< if `ok`
};

struct ReservedSlots {
  static constexpr Type kType = Type::reserved_slots;
  std::vector<ReservedItem> items;  ///< as many as were asked for
  /// slots that this writer has lost, or some of them: it gives back those that it does not write
  /// to any more
  std::vector<SlotRef> lost;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

struct SealItem {
  SlotRef at;
  Checksum checksum;  ///< as the writer has it: what differs is `corrupt`, not kept
};

/// What was reserved has been written, and will not be written to again, whatever the answer is
/// (`Stored`). A slot that is not this writer's, or was lost, is `stale`.
struct SealSlots {
  static constexpr Type kType = Type::seal_slots;
  SessionProof proof;
  std::uint32_t deadline_ms = 0;  ///< from now
  WriterId writer;
  std::vector<SealItem> items;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// These will not be written to again. Not answered: what got lost is in the next `ReservedSlots`.
struct GiveBackSlots {
  static constexpr Type kType = Type::give_back_slots;
  WriterId writer;
  std::vector<SlotRef> items;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// Asks for the window through which the hardware of trusted processes reads the arena
/// (decision 20). Refused by a node that opens none.
struct OpenWindow {
  static constexpr Type kType = Type::open_window;
  SessionProof proof;
  void encode(Writer& out) const;
  void decode(Reader& in);
};
struct WindowOpened {
  static constexpr Type kType = Type::window_opened;
  Incarnation incarnation;           ///< of the node's life whose arena it is
  std::uint64_t capacity_bytes = 0;  ///< of the slots
  std::uint64_t seals_offset = 0;    ///< bytes into the window
  std::uint64_t slots_offset = 0;    ///< likewise
  std::vector<std::byte> window;     ///< what the transport made: at most kMaxWindowBytes
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// A reader's checksum failed. The node hashes the slot itself; it alone decides `Corrupt`.
struct Suspect {
  static constexpr Type kType = Type::suspect;
  SlotId slot;
  Generation generation;
  void encode(Writer& out) const;
  void decode(Reader& in);
};
using SuspectNoted = Empty<Type::suspect_noted>;

// ---- node -> shard
// --------------------------------------------------------------------------------------------

struct SizeClass {
  std::uint32_t slot_bytes = 0;
  std::uint32_t slots = 0;
};

/// `proof` = HMAC(cluster secret, "membrain register" | node | incarnation | connection binding).
struct RegisterNode {
  static constexpr Type kType = Type::register_node;
  NodeId node;
  Incarnation incarnation;
  std::uint64_t capacity_bytes = 0;
  std::string address;
  std::string host;
  Digest proof{};
  std::string door;  ///< as NodeEntry's
  Tier tier = Tier::host;
  std::string zone;  ///< as NodeEntry's
  void encode(Writer& out) const;
  void decode(Reader& in);
};

struct Accepted {
  static constexpr Type kType = Type::accepted;
  Epoch epoch;                    ///< the node refuses lower ones from now on
  Digest grant_key{};             ///< checks SessionProof
  std::uint32_t ttl_ms = 0;       ///< a node that is silent for longer leaves all answers
  std::uint32_t map_version = 0;  ///< of the ranges by which this shard answers
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// A sealed slot.
struct SlotEntry {
  BlockMeta meta;
  SlotId slot;
  Generation generation;
  std::uint32_t length = 0;      ///< bytes
  std::uint32_t slot_bytes = 0;  ///< its size class
  Checksum checksum;
  void encode(Writer& out) const;
  void decode(Reader& in);
  bool operator==(const SlotEntry&) const = default;
};

struct Publish {
  static constexpr Type kType = Type::publish;
  NodeId node;
  Incarnation incarnation;
  std::vector<SlotEntry> items;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// ok, duplicate (free it at once), old_era, refused (free it).
struct Published {
  static constexpr Type kType = Type::published;
  std::vector<ItemStatus> statuses;  ///< as many as items
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// Asks for victims: `count` slots of a size class, and/or all unpinned ones of `candidates` (to
/// empty a slab for another size class).
struct NeedSlots {
  static constexpr Type kType = Type::need_slots;
  NodeId node;
  Incarnation incarnation;
  std::uint32_t slot_bytes = 0;
  std::uint32_t count = 0;
  std::vector<SlotRef> candidates;  ///< at most kMaxFreeItems
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// Slots to free, each if its generation still matches. Repeated until the node has answered
/// `Freed`.
struct FreeSlots {
  static constexpr Type kType = Type::free_slots;
  NodeId node;
  Incarnation incarnation;
  Epoch epoch;
  std::vector<SlotRef> items;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// These are free, or will be when their transfers have drained, or were already: do not repeat
/// them.
struct Freed {
  static constexpr Type kType = Type::freed;
  NodeId node;
  Incarnation incarnation;
  std::vector<SlotRef> items;
  void encode(Writer& out) const;
  void decode(Reader& in);
};
using FreedNoted = Empty<Type::freed_noted>;

/// All sealed slots, in portions, after every Accepted. The shard forgets what it held of this node
/// at `first` and may free slots of this node only after `last`.
struct Report {
  static constexpr Type kType = Type::report;
  NodeId node;
  Incarnation incarnation;
  std::uint32_t portion = 0;  ///< 0, 1, 2, ...; a repeated portion changes nothing
  bool last = false;
  std::vector<SlotEntry> items;
  void encode(Writer& out) const;
  void decode(Reader& in);
};

struct Reported {
  static constexpr Type kType = Type::reported;
  std::vector<ItemStatus> statuses;  ///< as in Published
  void encode(Writer& out) const;
  void decode(Reader& in);
};

/// The node found that a slot's bytes are not what its seal says.
struct Corrupt {
  static constexpr Type kType = Type::corrupt;
  NodeId node;
  Incarnation incarnation;
  SlotRef at;
  void encode(Writer& out) const;
  void decode(Reader& in);
};
using CorruptNoted = Empty<Type::corrupt_noted>;

struct NodeHeartbeat {
  static constexpr Type kType = Type::node_heartbeat;
  NodeId node;
  Incarnation incarnation;
  std::uint64_t free_bytes = 0;
  std::uint64_t moved_bytes = 0;  ///< in and out, since this life began
  void encode(Writer& out) const;
  void decode(Reader& in);
};
using NodeAlive = Empty<Type::node_alive>;

}  // namespace membrain::wire
