// One of every message with a body, every list of it with something in it: for tests of codecs and
// as seeds of the fuzz targets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/codec.h"
#include "protocol/copy_messages.h"
#include "protocol/group_messages.h"
#include "protocol/messages.h"
#include "protocol/shard_messages.h"

namespace membrain::wire {

/// All of them, in a list of types.
template <template <class...> class List>
using EveryMessageIn =
    List<Refused, Hello, Welcome, OpenNamespace, NamespaceOpened, Heartbeat, Alive, Lookup, Found,
         Unpin, Grant, Granted, Clear, Cleared, ProbeParts, ProbedParts, StatsReply, NodeList,
         Fetch, Data, CancelFetch, Store, Stored, ReserveSlots, ReservedSlots, SealSlots,
         GiveBackSlots, OpenWindow, WindowOpened, Suspect, RegisterNode, Accepted, Publish,
         Published, NeedSlots, FreeSlots, Freed, Report, Reported, Corrupt, NodeHeartbeat,
         ShardList, GroupHello, GroupOffer, GroupBlocks, GroupDone, GroupPropose, GroupAnswer,
         GroupGo, CopyBlocks, CopiesEnded, Leave, Leaving>;

template <class Message>
std::vector<std::byte> encoded(const Message& message) {
  std::vector<std::byte> bytes;
  Writer out(bytes);
  message.encode(out);
  return bytes;
}

inline Location location(std::uint64_t n) {
  return {NodeId{1}, Incarnation{2}, SlotId{3}, 4, Generation{n}, Checksum{n + 1, n + 2}};
}

inline BlockMeta meta() {
  BlockMeta made;
  made.space = NamespaceId{1};
  made.era = Era{2};
  made.key = BlockKey{3, 4};
  made.parent = BlockKey{5, 6};
  made.depth = 7;
  made.part = 8;
  made.priority = 9;
  made.intent = StoreIntent::replica;
  return made;
}

inline SlotEntry entry() {
  return {meta(), SlotId{1}, Generation{2}, 3, 4096, Checksum{5, 6}};
}

inline SessionProof proof() {
  SessionProof made{SessionId{1}, Epoch{2}, LookupId{3}, 4, {}};
  made.mac.fill(std::byte{5});
  return made;
}

template <class Message>
Message sample();
template <>
inline Refused sample() {
  return {Errc::denied, "why"};
}
template <>
inline Hello sample() {
  return {"tenant", Digest{}, SessionId{3}, "label"};
}
template <>
inline Welcome sample() {
  return {proof(), 5, 6, 7};
}
template <>
inline OpenNamespace sample() {
  return {Digest{}, Digest{}, "label", 2, ZoneRule::spread};
}
template <>
inline NamespaceOpened sample() {
  return {NamespaceId{1}, Era{2}, true};
}
template <>
inline Heartbeat sample() {
  return {SessionId{1}};
}
template <>
inline Alive sample() {
  return {3};
}
template <>
inline Lookup sample() {
  const LookupSection section{NamespaceId{1}, LookupRule::window, 5, 2, {{1, 2}, {3, 4}}};
  return {SessionId{1}, LookupId{2}, LookupMode::pin, {section, section}};
}
template <>
inline Found sample() {
  const FoundSection section{
      Era{1}, 2, {0xff, 1}, {{0, 0, Tier::host, location(1)}, {1, 1, Tier::device, location(2)}}};
  return {LookupId{2}, {section, section}};
}
template <>
inline Unpin sample() {
  return {SessionId{1},
          {{LookupId{1}, NamespaceId{2}, {{1, 2}}}, {LookupId{3}, NamespaceId{}, {}}}};
}
template <>
inline Grant sample() {
  return {SessionId{1}, LookupId{2}, 3};
}
template <>
inline Granted sample() {
  return {proof()};
}
template <>
inline Clear sample() {
  return {SessionId{1}, NamespaceId{2}, Era{3}};
}
template <>
inline Cleared sample() {
  return {Era{3}};
}
template <>
inline ProbeParts sample() {
  return {SessionId{1}, NamespaceId{2}, Era{3}, {{{4, 5}, 6}, {{7, 8}, 9}}};
}
template <>
inline ProbedParts sample() {
  return {{0x5a, 1}};
}
template <>
inline StatsReply sample() {
  return {{{"a", 1}, {"b", 2}}};
}
template <>
inline NodeList sample() {
  const NodeEntry node{NodeId{1}, Incarnation{2}, true,         "127.0.0.1:1", "host", 3,
                       4,         "door",         Tier::device, "zone",        5};
  return {{node, node}};
}
template <>
inline Fetch sample() {
  const FetchItem item{NamespaceId{1}, {2, 3}, 4, SlotId{5}, Generation{6}, 7, 8, 9};
  return {proof(), 10, {item, item}};
}
template <>
inline Data sample() {
  return {{{1, ItemStatus::ok, 5}, {2, ItemStatus::stale, 0}}};
}
template <>
inline CancelFetch sample() {
  return {OpId{1}};
}
template <>
inline Store sample() {
  return {proof(), 1, {{meta(), 2, {4, 5}}, {meta(), 3, {6, 7}}}};
}
template <>
inline Stored sample() {
  return {{ItemStatus::ok, ItemStatus::full}};
}
template <>
inline ReserveSlots sample() {
  return {proof(), 1, WriterId{2}, {{meta(), 3}, {meta(), 4}}};
}
template <>
inline ReservedSlots sample() {
  return {{{ItemStatus::ok, {SlotId{1}, Generation{2}}}, {ItemStatus::full, {}}},
          {{SlotId{3}, Generation{4}}, {SlotId{5}, Generation{6}}}};
}
template <>
inline SealSlots sample() {
  return {proof(),
          1,
          WriterId{2},
          {{{SlotId{1}, Generation{2}}, {3, 4}}, {{SlotId{5}, Generation{6}}, {7, 8}}}};
}
template <>
inline GiveBackSlots sample() {
  return {WriterId{1}, {{SlotId{2}, Generation{3}}, {SlotId{4}, Generation{5}}}};
}
template <>
inline OpenWindow sample() {
  return {proof()};
}
template <>
inline WindowOpened sample() {
  return {Incarnation{3}, 1 << 20, 4096, 1 << 19, {std::byte{1}, std::byte{2}, std::byte{3}}};
}
template <>
inline Suspect sample() {
  return {SlotId{1}, Generation{2}};
}
template <>
inline RegisterNode sample() {
  return {NodeId{1}, Incarnation{2}, 3, "address", "host", Digest{}, "door", Tier::device, "zone"};
}
template <>
inline Accepted sample() {
  return {Epoch{1}, Digest{}, 3, 4};
}
template <>
inline Publish sample() {
  return {NodeId{1}, Incarnation{2}, {entry(), entry()}};
}
template <>
inline Published sample() {
  return {{ItemStatus::duplicate, ItemStatus::refused}};
}
template <>
inline NeedSlots sample() {
  return {NodeId{1}, Incarnation{2}, 4096, 3, {{SlotId{1}, Generation{2}}}};
}
template <>
inline FreeSlots sample() {
  return {NodeId{1}, Incarnation{2}, Epoch{3}, {{SlotId{1}, Generation{2}}}};
}
template <>
inline Freed sample() {
  return {NodeId{1}, Incarnation{2}, {{SlotId{1}, Generation{2}}}};
}
template <>
inline Report sample() {
  return {NodeId{1}, Incarnation{2}, 3, true, {entry()}};
}
template <>
inline Reported sample() {
  return {{ItemStatus::ok}};
}
template <>
inline Corrupt sample() {
  return {NodeId{1}, Incarnation{2}, {SlotId{3}, Generation{4}}};
}
template <>
inline NodeHeartbeat sample() {
  return {NodeId{1}, Incarnation{2}, 3, 4};
}

template <>
inline ShardList sample() {
  return {3, {{ShardId{0}, 0, "leader"}, {ShardId{7}, UINT64_MAX / 2, ""}}};
}

template <>
inline GroupHello sample() {
  return {"group", 1, 2, Digest{}};
}
template <>
inline GroupOffer sample() {
  return {1, 2, TreeShape::binomial, 3, 4, 5, Checksum{6, 7}};
}
template <>
inline GroupBlocks sample() {
  return {1, 2, {{ItemStatus::ok, Checksum{3, 4}}, {ItemStatus::corrupt, Checksum{}}}};
}
template <>
inline GroupDone sample() {
  return {1, {0x5a, 1}};
}
template <>
inline GroupPropose sample() {
  return {1, 2, 3, 4, 5, Checksum{6, 7}, CollectiveId{std::byte{8}}};
}
template <>
inline GroupAnswer sample() {
  return {1, GroupVote::ended, {0x5a, 1}};
}
template <>
inline GroupGo sample() {
  return {1, GroupStep::finish, CollectiveId{std::byte{2}}, 3};
}
template <>
inline CopyBlocks sample() {
  const SlotEntry from = entry();
  const CopyItem item{CopyId{1}, from.meta, {from.slot, from.generation}, 2, from.checksum};
  return {NodeId{1}, Incarnation{2}, Epoch{3}, proof(), 4, NodeId{5}, "address", {item, item}};
}
template <>
inline CopiesEnded sample() {
  return {NodeId{1}, Incarnation{2}, {{CopyId{3}, ItemStatus::full}}};
}
template <>
inline Leave sample() {
  return {NodeId{1}, Incarnation{2}};
}
template <>
inline Leaving sample() {
  return {3};
}

}  // namespace membrain::wire
