// Seeds of whole services: what their peers may say, in an order that makes sense.
#include <string>
#include <vector>

#include "base/checksum.h"
#include "base/codec.h"
#include "protocol/arena_header.h"
#include "tests/fuzz/party.h"
#include "tests/fuzz/seeds.h"
#include "tests/protocol/samples.h"

namespace membrain::fuzz {
namespace {

using Bytes = std::vector<std::byte>;
constexpr std::uint32_t kLength = 100;

/// A script: who says what.
class Script {
 public:
  template <class Message>
  Script& say(std::uint8_t who, const Message& message) {
    const Bytes body = wire::encoded(message);
    Writer out(bytes_);
    out.put(who), out.put(Message::kType), out.put(static_cast<std::uint16_t>(body.size()));
    out.raw(body.data(), body.size());
    return *this;
  }
  Script& with(const Bytes& payload) {
    Writer out(bytes_);
    out.put(static_cast<std::uint16_t>(payload.size()));
    out.raw(payload.data(), payload.size());
    return *this;
  }
  Script& wait(std::uint8_t portions) {
    Writer out(bytes_);
    out.put(static_cast<std::uint8_t>(portions * 8 + 7)), out.put(std::uint8_t{0});
    out.put(std::uint16_t{0});
    return *this;
  }
  [[nodiscard]] const Bytes& bytes() const noexcept { return bytes_; }

 private:
  Bytes bytes_;
};

const SessionId kSession{value_of(kSessionMark)};
const NamespaceId kSpace{value_of(kSpaceMark)};

wire::SlotEntry block(std::uint32_t number) {
  wire::SlotEntry entry;
  entry.meta.space = kSpace;
  entry.meta.era = Era{1};
  entry.meta.key = {number, 1};
  if (number > 1) entry.meta.parent = {number - 1, 1};
  entry.meta.depth = number - 1;
  entry.slot = SlotId{number};
  entry.generation = Generation{number};
  entry.length = kLength;
  entry.slot_bytes = kPageBytes;
  return entry;
}

wire::Lookup lookup(std::uint64_t id, wire::LookupRule rule) {
  const wire::LookupSection section{kSpace, rule, 1, 1, {{1, 1}, {2, 1}, {3, 1}}};
  return {kSession, LookupId{id}, wire::LookupMode::pin, {section}};
}

/// 0: the client, 1: the node, 6: a stranger.
void seed_shard(Seeds& seeds) {
  const NodeId node{1};
  const Incarnation life{1};
  Script usual;
  usual.say(1, wire::Report{node, life, 0, true, {block(1)}})
      .say(1, wire::Publish{node, life, {block(2), block(3)}})
      .say(0, lookup(1, wire::LookupRule::prefix))
      .say(0, wire::Grant{kSession, LookupId{1}, 1000})
      .say(0, wire::Unpin{kSession, {{LookupId{1}, kSpace, {{1, 1}}}, {LookupId{1}, {}, {}}}});
  seeds.put("shard_service", "usual", usual.bytes());
  Script pressed;
  pressed.say(1, wire::Report{node, life, 0, true, {block(1), block(2)}})
      .say(0, lookup(1, wire::LookupRule::all))
      .say(1, wire::NeedSlots{node, life, kPageBytes, 2, {{SlotId{1}, Generation{1}}}})
      .wait(30)
      .say(1, wire::NeedSlots{node, life, kPageBytes, 2, {{SlotId{1}, Generation{1}}}})
      .say(1, wire::Freed{node, life, {{SlotId{1}, Generation{1}}}})
      .say(1, wire::NodeHeartbeat{node, life, 4096});
  seeds.put("shard_service", "pressed", pressed.bytes());
  Script cleared;
  cleared.say(1, wire::Publish{node, life, {block(1)}})
      .say(0, lookup(1, wire::LookupRule::window))
      .say(0, wire::Clear{kSession, kSpace, Era{1}})
      .say(1, wire::Corrupt{node, life, {SlotId{1}, Generation{1}}})
      .say(0, wire::ProbeParts{kSession, kSpace, Era{2}, {{{1, 1}, 0}}})
      .say(0, wire::Heartbeat{kSession})
      .say(0, wire::Stats{})
      .say(0, wire::Nodes{});
  seeds.put("shard_service", "cleared", cleared.bytes());
  Script strange;
  strange.say(6, wire::sample<wire::Hello>())
      .say(6, wire::sample<wire::RegisterNode>())
      .say(6, lookup(1, wire::LookupRule::all))
      .say(1, wire::Report{node, life, 1, false, {block(1)}})
      .wait(25);
  seeds.put("shard_service", "strange", strange.bytes());
}

wire::StoreItem stored(std::uint32_t number, const Bytes& content) {
  return {block(number).meta, static_cast<std::uint32_t>(content.size()), checksum(content)};
}

/// 0: the client with its proof, 4: a stranger, 5: the shard unasked, 6: its next answer.
void seed_node(Seeds& seeds) {
  const Bytes content(kLength, std::byte{1});
  const wire::SessionProof proof;
  const wire::FetchItem item{kSpace, {1, 1}, 0, SlotId{0}, Generation{1}, 0, kLength, 1};
  Script usual;
  usual.say(0, wire::Store{proof, 1000, {stored(1, content)}})
      .with(content)
      .say(0, wire::Fetch{proof, 1000, {item, item}})
      .with({})
      .say(3, wire::CancelFetch{OpId{102}})
      .with({})
      .say(3, wire::Suspect{SlotId{0}, Generation{1}})
      .with({});
  seeds.put("node_service", "usual", usual.bytes());
  Script reserved;
  reserved.say(0, wire::ReserveSlots{proof, 1000, WriterId{9}, {{block(1).meta, kLength}}})
      .with({})
      .say(0, wire::SealSlots{proof, 1000, WriterId{9}, {{{SlotId{0}, Generation{1}}, {}}}})
      .with({})
      .say(3, wire::GiveBackSlots{WriterId{9}, {{SlotId{0}, Generation{1}}}})
      .with({})
      .say(0, wire::OpenWindow{proof})
      .with({});
  seeds.put("node_service", "reserved", reserved.bytes());
  Script freed;
  freed.say(0, wire::Store{proof, 1000, {stored(1, content)}})
      .with(content)
      .say(5, wire::FreeSlots{{}, {}, {}, {{SlotId{0}, Generation{1}}}})
      .say(6, wire::Published{{wire::ItemStatus::refused}})
      .say(0, wire::Store{proof, 1000, {stored(2, content)}})
      .with(content)
      .say(6, wire::Refused{Errc::unavailable, "not now"})
      .wait(30);
  seeds.put("node_service", "freed", freed.bytes());
  Script strange;
  strange.say(4, wire::Store{proof, 1000, {stored(1, content)}})
      .with(content)
      .say(3, wire::sample<wire::Fetch>())
      .with(content)
      .say(5, wire::sample<wire::NodeList>());
  seeds.put("node_service", "strange", strange.bytes());
}

}  // namespace

void seed_services(Seeds& seeds) {
  seed_shard(seeds);
  seed_node(seeds);
}

}  // namespace membrain::fuzz
