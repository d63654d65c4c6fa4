#include "protocol/messages.h"

#include <gtest/gtest.h>

#include <random>

#include "protocol/copy_messages.h"
#include "protocol/group_messages.h"
#include "protocol/shard_messages.h"

namespace membrain::wire {
namespace {

Location location(std::uint64_t n) {
  return {NodeId{1}, Incarnation{2}, SlotId{3}, 4, Generation{n}, Checksum{n + 1, n + 2}};
}

BlockMeta meta() {
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

SlotEntry entry() {
  return {meta(), SlotId{1}, Generation{2}, 3, 4096, Checksum{5, 6}};
}

SessionProof proof() {
  SessionProof made{SessionId{1}, Epoch{2}, LookupId{3}, 4, {}};
  made.mac.fill(std::byte{5});
  return made;
}

/// One of each message, every list with two things in it.
template <class Message>
Message sample();
template <>
Refused sample() {
  return {Errc::denied, "why"};
}
template <>
Hello sample() {
  return {"tenant", Digest{}, SessionId{3}, "label"};
}
template <>
Welcome sample() {
  return {proof(), 5, 6, 7};
}
template <>
OpenNamespace sample() {
  return {Digest{}, Digest{}, "label", 2, ZoneRule::spread};
}
template <>
NamespaceOpened sample() {
  return {NamespaceId{1}, Era{2}, true};
}
template <>
Heartbeat sample() {
  return {SessionId{1}};
}
template <>
Alive sample() {
  return {3};
}
template <>
Lookup sample() {
  const LookupSection section{NamespaceId{1}, LookupRule::window, 5, 2, {{1, 2}, {3, 4}}};
  return {SessionId{1}, LookupId{2}, LookupMode::pin, {section, section}};
}
template <>
Found sample() {
  const FoundSection section{
      Era{1}, 2, {0xff, 1}, {{0, 0, Tier::host, location(1)}, {1, 1, Tier::device, location(2)}}};
  return {LookupId{2}, {section, section}};
}
template <>
Unpin sample() {
  return {SessionId{1},
          {{LookupId{1}, NamespaceId{2}, {{1, 2}}}, {LookupId{3}, NamespaceId{}, {}}}};
}
template <>
Grant sample() {
  return {SessionId{1}, LookupId{2}, 3};
}
template <>
Granted sample() {
  return {proof()};
}
template <>
Clear sample() {
  return {SessionId{1}, NamespaceId{2}, Era{3}};
}
template <>
Cleared sample() {
  return {Era{3}};
}
template <>
ProbeParts sample() {
  return {SessionId{1}, NamespaceId{2}, Era{3}, {{{4, 5}, 6}, {{7, 8}, 9}}};
}
template <>
ProbedParts sample() {
  return {{0x5a, 1}};
}
template <>
StatsReply sample() {
  return {{{"a", 1}, {"b", 2}}};
}
template <>
NodeList sample() {
  const NodeEntry node{NodeId{1}, Incarnation{2}, true,         "127.0.0.1:1", "host", 3,
                       4,         "door",         Tier::device, "zone",        5};
  return {{node, node}};
}
template <>
Fetch sample() {
  const FetchItem item{NamespaceId{1}, {2, 3}, 4, SlotId{5}, Generation{6}, 7, 8, 9};
  return {proof(), 10, {item, item}};
}
template <>
Data sample() {
  return {{{1, ItemStatus::ok, 5}, {2, ItemStatus::stale, 0}}};
}
template <>
CancelFetch sample() {
  return {OpId{1}};
}
template <>
Store sample() {
  return {proof(), 1, {{meta(), 2, {4, 5}}, {meta(), 3, {6, 7}}}};
}
template <>
Stored sample() {
  return {{ItemStatus::ok, ItemStatus::full}};
}
template <>
ReserveSlots sample() {
  return {proof(), 1, WriterId{2}, {{meta(), 3}, {meta(), 4}}};
}
template <>
ReservedSlots sample() {
  return {{{ItemStatus::ok, {SlotId{1}, Generation{2}}}, {ItemStatus::full, {}}},
          {{SlotId{3}, Generation{4}}, {SlotId{5}, Generation{6}}}};
}
template <>
SealSlots sample() {
  return {proof(),
          1,
          WriterId{2},
          {{{SlotId{1}, Generation{2}}, {3, 4}}, {{SlotId{5}, Generation{6}}, {7, 8}}}};
}
template <>
GiveBackSlots sample() {
  return {WriterId{1}, {{SlotId{2}, Generation{3}}, {SlotId{4}, Generation{5}}}};
}
template <>
OpenWindow sample() {
  return {proof()};
}
template <>
WindowOpened sample() {
  return {Incarnation{3}, 1 << 20, 4096, 1 << 19, {std::byte{1}, std::byte{2}, std::byte{3}}};
}
template <>
Suspect sample() {
  return {SlotId{1}, Generation{2}};
}
template <>
RegisterNode sample() {
  return {NodeId{1}, Incarnation{2}, 3, "address", "host", Digest{}, "door", Tier::device, "zone"};
}
template <>
Accepted sample() {
  return {Epoch{1}, Digest{}, 3, 4};
}
template <>
Publish sample() {
  return {NodeId{1}, Incarnation{2}, {entry(), entry()}};
}
template <>
Published sample() {
  return {{ItemStatus::duplicate, ItemStatus::refused}};
}
template <>
NeedSlots sample() {
  return {NodeId{1}, Incarnation{2}, 4096, 3, {{SlotId{1}, Generation{2}}}};
}
template <>
FreeSlots sample() {
  return {NodeId{1}, Incarnation{2}, Epoch{3}, {{SlotId{1}, Generation{2}}}};
}
template <>
Freed sample() {
  return {NodeId{1}, Incarnation{2}, {{SlotId{1}, Generation{2}}}};
}
template <>
Report sample() {
  return {NodeId{1}, Incarnation{2}, 3, true, {entry()}};
}
template <>
Reported sample() {
  return {{ItemStatus::ok}};
}
template <>
Corrupt sample() {
  return {NodeId{1}, Incarnation{2}, {SlotId{3}, Generation{4}}};
}
template <>
NodeHeartbeat sample() {
  return {NodeId{1}, Incarnation{2}, 3, 4};
}

template <>
ShardList sample() {
  return {3, {{ShardId{0}, 0, "leader"}, {ShardId{7}, UINT64_MAX / 2, ""}}};
}

template <>
GroupHello sample() {
  return {"group", 1, 2, Digest{}};
}
template <>
GroupOffer sample() {
  return {1, 2, TreeShape::binomial, 3, 4, 5, Checksum{6, 7}};
}
template <>
GroupBlocks sample() {
  return {1, 2, {{ItemStatus::ok, Checksum{3, 4}}, {ItemStatus::corrupt, Checksum{}}}};
}
template <>
GroupDone sample() {
  return {1, {0x5a, 1}};
}
template <>
GroupPropose sample() {
  return {1, 2, 3, 4, 5, Checksum{6, 7}, CollectiveId{std::byte{8}}};
}
template <>
GroupAnswer sample() {
  return {1, GroupVote::ended, {0x5a, 1}};
}
template <>
GroupGo sample() {
  return {1, GroupStep::finish, CollectiveId{std::byte{2}}, 3};
}
template <>
CopyBlocks sample() {
  const SlotEntry from = entry();
  const CopyItem item{CopyId{1}, from.meta, {from.slot, from.generation}, 2, from.checksum};
  return {NodeId{1}, Incarnation{2}, Epoch{3}, proof(), 4, NodeId{5}, "address", {item, item}};
}
template <>
CopiesEnded sample() {
  return {NodeId{1}, Incarnation{2}, {{CopyId{3}, ItemStatus::full}}};
}

template <class Message>
std::vector<std::byte> encoded(const Message& message) {
  std::vector<std::byte> bytes;
  Writer out(bytes);
  message.encode(out);
  return bytes;
}

template <class Message>
class EveryMessage : public ::testing::Test {};

using All = ::testing::Types<
    Refused, Hello, Welcome, OpenNamespace, NamespaceOpened, Heartbeat, Alive, Lookup, Found, Unpin,
    Grant, Granted, Clear, Cleared, ProbeParts, ProbedParts, StatsReply, NodeList, Fetch, Data,
    CancelFetch, Store, Stored, ReserveSlots, ReservedSlots, SealSlots, GiveBackSlots, OpenWindow,
    WindowOpened, Suspect, RegisterNode, Accepted, Publish, Published, NeedSlots, FreeSlots, Freed,
    Report, Reported, Corrupt, NodeHeartbeat, ShardList, GroupHello, GroupOffer, GroupBlocks,
    GroupDone, GroupPropose, GroupAnswer, GroupGo, CopyBlocks, CopiesEnded>;
TYPED_TEST_SUITE(EveryMessage, All);

TYPED_TEST(EveryMessage, EncodesToTheSameBytesAfterDecoding) {
  const std::vector<std::byte> bytes = encoded(sample<TypeParam>());
  const Result<TypeParam> back = read_body<TypeParam>(bytes);
  ASSERT_TRUE(back);
  EXPECT_EQ(encoded(*back), bytes);
}

TYPED_TEST(EveryMessage, IsRefusedWhenAnyByteIsMissing) {
  const std::vector<std::byte> bytes = encoded(sample<TypeParam>());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(read_body<TypeParam>(std::span(bytes).first(size))) << size;
  }
}

TYPED_TEST(EveryMessage, SkipsTrailingBytesOfALaterVersion) {
  std::vector<std::byte> bytes = encoded(sample<TypeParam>());
  const std::vector<std::byte> original = bytes;
  bytes.insert(bytes.end(), 17, std::byte{0xee});
  const Result<TypeParam> back = read_body<TypeParam>(bytes);
  ASSERT_TRUE(back);
  EXPECT_EQ(encoded(*back), original);
}

TYPED_TEST(EveryMessage, SurvivesFlippedAndRandomBytes) {
  const std::vector<std::byte> bytes = encoded(sample<TypeParam>());
  std::mt19937_64 random(3);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::byte> bad = bytes;
    const std::size_t flips = 1 + random() % 8;
    for (std::size_t i = 0; i < flips; ++i)
      bad[random() % bad.size()] = static_cast<std::byte>(random());
    const Result<TypeParam> read = read_body<TypeParam>(bad);
    if (read) {
      EXPECT_LE(encoded(*read).size(), bad.size());
    }
  }
}

TEST(Messages, ListsAboveTheirBoundAreCorrupt) {
  Stored many;
  many.statuses.assign(kMaxPublishItems + 1, ItemStatus::ok);
  EXPECT_FALSE(read_body<Stored>(encoded(many)));
  ReservedSlots reserved;
  reserved.lost.resize(kMaxReserveItems + 1);
  EXPECT_FALSE(read_body<ReservedSlots>(encoded(reserved)));
  SealSlots seal;
  seal.items.resize(kMaxReserveItems + 1);
  EXPECT_FALSE(read_body<SealSlots>(encoded(seal)));
  Lookup lookup = sample<Lookup>();
  lookup.sections[0].keys.assign(kMaxKeys - 1, BlockKey{1, 1});
  EXPECT_FALSE(read_body<Lookup>(encoded(lookup)));  // 4095 + 2 keys over two sections
}

TEST(Messages, ALookupForNoPartsIsCorrupt) {
  Lookup lookup = sample<Lookup>();
  lookup.sections[0].parts = 0;
  EXPECT_FALSE(read_body<Lookup>(encoded(lookup)));
}

TEST(Messages, DataCannotClaimBytesForAFailedItem) {
  EXPECT_FALSE(read_body<Data>(encoded(Data{{{1, ItemStatus::stale, 5}}})));
}

TEST(Messages, TheLargestOfEachFitsItsFrame) {
  Store store = sample<Store>();
  store.items.assign(kMaxStoreItems, store.items[0]);
  EXPECT_LE(encoded(store).size() + kHeaderBytes, 4096u);
  Data data;
  data.items.assign(kMaxDataItems, DataItem{1, ItemStatus::ok, 1});
  EXPECT_LE(encoded(data).size() + kHeaderBytes, 4096u);
  ReserveSlots reserve = sample<ReserveSlots>();
  reserve.items.assign(kMaxReserveItems, reserve.items[0]);
  EXPECT_LE(encoded(reserve).size() + kHeaderBytes, 256u * 1024);
  Publish publish = sample<Publish>();
  publish.items.assign(kMaxPublishItems, publish.items[0]);
  EXPECT_LE(encoded(publish).size() + kHeaderBytes, 256u * 1024);
  Found found = sample<Found>();
  found.sections.resize(1);
  found.sections[0].locations.assign(kMaxLocations, found.sections[0].locations[0]);
  found.sections[0].bitmap.assign(kMaxKeys / 8, 1);
  EXPECT_LE(encoded(found).size() + kHeaderBytes, 256u * 1024);
}

/// Lists of keys and places are copied whole: byte by byte they are what the page says.
TEST(Messages, APlaceLiesInFoundFieldByField) {
  Found found;
  found.sections.resize(1);
  found.sections[0].bitmap = {3};
  const Location at{NodeId{0x01020304}, Incarnation{5}, SlotId{6}, 7,
                    Generation{8},      Checksum{9, 10}};
  found.sections[0].locations = {{0, 0, Tier::host, at}, {1, 2, Tier::device, at}};
  std::vector<std::byte> bytes;
  Writer out(bytes);
  found.encode(out);
  std::vector<std::byte> expected;
  Writer fields(expected);
  fields.put(std::uint64_t{0}), fields.put(std::uint32_t{1});  // lookup, sections
  fields.put(std::uint32_t{0}), fields.put(std::uint32_t{0});  // era, prefix
  fields.put(std::uint32_t{1}), fields.put(std::uint8_t{3});   // bitmap
  fields.put(std::uint32_t{2});
  for (const std::uint32_t block : {0U, 1U}) {
    fields.put(block), fields.put(static_cast<std::uint16_t>(2 * block));
    fields.put(static_cast<std::uint8_t>(block));
    fields.put(std::uint32_t{0x01020304}), fields.put(std::uint32_t{5});
    fields.put(std::uint32_t{6}), fields.put(std::uint32_t{7}), fields.put(std::uint64_t{8});
    fields.put(std::uint64_t{9}), fields.put(std::uint64_t{10});
  }
  EXPECT_EQ(bytes, expected);
}

TEST(Messages, ATierThatDoesNotExistSpoilsFound) {
  Found found;
  found.sections.resize(1);
  found.sections[0].locations = {{0, 0, Tier::device, location(1)}};
  std::vector<std::byte> body;
  Writer out(body);
  found.encode(out);
  std::byte& tier = body.at(body.size() - sizeof(Location) - 1);
  ASSERT_EQ(tier, std::byte{1});
  EXPECT_TRUE(read_body<Found>(body));
  tier = std::byte{2};
  EXPECT_FALSE(read_body<Found>(body));
}

TEST(Messages, AListOfPlacesThatIsCutShortIsRefused) {
  Found found;
  found.sections.resize(1);
  found.sections[0].locations.resize(3);
  std::vector<std::byte> bytes;
  Writer out(bytes);
  found.encode(out);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(read_body<Found>(std::span(bytes).first(size))) << size;
  }
}

}  // namespace
}  // namespace membrain::wire
