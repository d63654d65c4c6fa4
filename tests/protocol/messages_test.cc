#include "protocol/messages.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/protocol/samples.h"

namespace membrain::wire {
namespace {

template <class Message>
class EveryMessage : public ::testing::Test {};

using All = EveryMessageIn<::testing::Types>;
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

TEST(Messages, ARefusalWithACodeThatDoesNotExistIsCorrupt) {
  std::vector<std::byte> body = encoded(sample<Refused>());
  for (const std::byte code : {std::byte{0}, std::byte{11}}) {
    body[0] = code;
    EXPECT_FALSE(read_body<Refused>(body)) << static_cast<int>(code);
  }
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
