#include "base/key.h"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

namespace membrain {
namespace {

Namespace space() {
  Namespace made;
  made.model = "m";
  made.hash_algorithm = "sha256_cbor";
  made.hash_seed_fingerprint = "s";
  return made;
}

BlockHash hash_of(std::string_view text) {
  return BlockHash::from(as_bytes(text)).value();
}

TEST(Namespace, EveryFieldChangesItsDigest) {
  const std::vector<std::function<void(Namespace&)>> changes = {
      [](Namespace& n) { n.model = "x"; },
      [](Namespace& n) { n.revision = "x"; },
      [](Namespace& n) { n.weights_version = "x"; },
      [](Namespace& n) { n.kv_dtype = "x"; },
      [](Namespace& n) { n.block_tokens = 32; },
      [](Namespace& n) { n.layout = "x"; },
      [](Namespace& n) { n.part_count = 2; },
      [](Namespace& n) { n.kv_group = 1; },
      [](Namespace& n) { n.hash_algorithm = "x"; },
      [](Namespace& n) { n.hash_seed_fingerprint = "x"; },
      [](Namespace& n) { n.tenant = "x"; },
  };
  for (std::size_t i = 0; i < changes.size(); ++i) {
    Namespace other = space();
    changes[i](other);
    EXPECT_NE(digest_of(other), digest_of(space())) << "field " << i;
  }
}

TEST(Namespace, MovingTextFromOneFieldToTheNextChangesItsDigest) {
  Namespace a = space();
  Namespace b = space();
  a.model = "ab", a.revision = "";
  b.model = "a", b.revision = "b";
  EXPECT_NE(digest_of(a), digest_of(b));
}

TEST(Namespace, OnlyTheSeedSeparatesAFamily) {
  Namespace other = space();
  other.hash_seed_fingerprint = "x";
  EXPECT_EQ(family_of(other), family_of(space()));
  other.model = "x";
  EXPECT_NE(family_of(other), family_of(space()));
}

TEST(BlockKey, DiffersBetweenNamespacesTenantsAndHashes) {
  const Digest one = digest_of(space());
  Namespace other_space = space();
  other_space.model = "x";
  const Digest two = digest_of(other_space);
  const BlockKey key = KeyMaker(one, as_bytes("key a")).key(hash_of("h"));
  EXPECT_EQ(KeyMaker(one, as_bytes("key a")).key(hash_of("h")), key);
  EXPECT_NE(KeyMaker(two, as_bytes("key a")).key(hash_of("h")), key);
  EXPECT_NE(KeyMaker(one, as_bytes("key b")).key(hash_of("h")), key);
  EXPECT_NE(KeyMaker(one, as_bytes("key a")).key(hash_of("i")), key);
}

TEST(BlockKey, AZeroByteMoreIsAnotherHash) {
  const KeyMaker maker(digest_of(space()), {});
  EXPECT_NE(maker.key(hash_of("h")), maker.key(hash_of(std::string_view("h\0", 2))));
}

TEST(BlockHash, TakesOneTo32Bytes) {
  EXPECT_FALSE(BlockHash::from({}));
  EXPECT_FALSE(BlockHash::from(std::vector<std::byte>(33)));
  EXPECT_TRUE(BlockHash::from(std::vector<std::byte>(32)));
}

}  // namespace
}  // namespace membrain
