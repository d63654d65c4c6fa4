// Seeds of what goes over the wire and lies in shared memory.
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "base/checksum.h"
#include "base/codec.h"
#include "cache/client/grant.h"
#include "protocol/arena_header.h"
#include "protocol/door.h"
#include "protocol/seal.h"
#include "server/cluster/state_file.h"
#include "tests/fuzz/seeds.h"
#include "tests/fuzz/target.h"
#include "tests/protocol/samples.h"

namespace membrain::fuzz {
namespace {

using Bytes = std::vector<std::byte>;

template <class Message>
void seed(Seeds& seeds) {
  const std::string name = std::to_string(static_cast<int>(Message::kType));
  Bytes typed{static_cast<std::byte>(Message::kType)};
  const Bytes body = wire::encoded(wire::sample<Message>());
  typed.insert(typed.end(), body.begin(), body.end());
  seeds.put("messages", name, typed);
  wire::Header header;
  header.op = OpId{7};
  Bytes frame;
  seeds.put("frames", name, wire::write_frame(frame, header, wire::sample<Message>()));
}

template <class... Messages>
void seed_each(Seeds& seeds, std::tuple<Messages...>*) {
  (seed<Messages>(seeds), ...);
}

SealContent sealed(std::uint32_t slot, std::uint32_t length) {
  SealContent content;
  content.entry = {wire::meta(), SlotId{slot}, Generation{slot + 1}, length, kPageBytes, {}};
  content.entry.meta.key.low += slot;
  content.entry.checksum = checksum(Bytes(length));
  content.slab = {slot, 1};
  return content;
}

LentContent lent(std::uint32_t slot) {
  return {SlotId{slot}, Generation{slot + 1}, 100, kPageBytes, {slot, 1}, WriterId{9}};
}

std::span<const std::byte> bytes_of_seal(const Seal& seal) {
  return {reinterpret_cast<const std::byte*>(&seal), sizeof seal};
}

void append(Bytes& to, std::span<const std::byte> bytes) {
  to.insert(to.end(), bytes.begin(), bytes.end());
}

/// What is to be put right, the counters, then some seals.
Bytes arena(std::uint8_t mending, const std::vector<std::pair<std::uint8_t, const Seal*>>& seals) {
  Bytes bytes;
  Writer out(bytes);
  out.put(mending), out.put(std::uint64_t{100}), out.put(std::uint32_t{2});
  for (const auto& [slot, seal] : seals) {
    out.put(slot);
    append(bytes, bytes_of_seal(*seal));
  }
  return bytes;
}

void seed_mapped(Seeds& seeds, const Seal& seal) {
  alignas(ArenaHeader) std::array<std::byte, sizeof(ArenaHeader)> raw{};
  auto& header = *reinterpret_cast<ArenaHeader*>(raw.data());
  header.version = ArenaHeader::kVersion;
  header.node = 7;
  header.capacity_bytes = kPageBytes;
  header.seals_offset = 128;
  header.slots_offset = kPageBytes;
  header.incarnation.store(1);
  header.magic.store(ArenaHeader::kMagic);
  Bytes bytes(raw.begin(), raw.end());
  Writer(bytes).put(static_cast<std::uint16_t>(kPageBytes));
  append(bytes, bytes_of_seal(seal));
  seeds.put("mapped_arena", "one", bytes);
}

Bytes grant() {
  Match::State match;
  match.space = NamespaceId{1};
  match.era = Era{2};
  match.parts = 2;
  match.keys = {{1, 2}, {3, 4}, {}};
  match.prefix_blocks = 2;
  std::vector<PlacedReplica> placed;
  for (std::uint32_t block = 0; block < 2; ++block) {
    for (std::uint16_t part = 0; part < 2; ++part) {
      placed.push_back({block, part, {wire::location(block + 1), Tier::host}});
      placed.push_back({block, part, {wire::location(block + 10), Tier::device}});
    }
  }
  check(place_replicas(match, placed), "a match that does not fit");
  match.claims = {{LookupId{1}, 0, 1, {}}, {LookupId{2}, 1, 2, {}}};
  const std::vector<wire::SessionProof> proofs{wire::proof(), wire::proof()};
  return encode_grant(match, proofs).value();
}

Bytes file_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> content{std::istreambuf_iterator<char>(file), {}};
  const auto bytes = std::as_bytes(std::span(content));
  return {bytes.begin(), bytes.end()};
}

/// One active message for ucx_messages: how it comes, and its header, of the first connection.
void append_message(Bytes& to, std::uint8_t how, std::uint32_t sequence, std::uint32_t kind,
                    std::string_view frame, std::uint32_t data_bytes) {
  Writer out(to);
  out.put(how), out.put(std::uint8_t{0});
  out.put(static_cast<std::uint8_t>(16 + frame.size()));
  out.put(std::uint64_t{0}), out.put(sequence), out.put(kind);
  out.raw(frame.data(), frame.size());
  out.put(data_bytes);
}

void seed_active_messages(Seeds& seeds) {
  constexpr std::uint8_t kToken = 1;
  constexpr std::uint8_t kRendezvous = 2;
  constexpr std::uint8_t kKept = 4;
  constexpr std::uint8_t kTaken = 8;
  constexpr std::uint8_t kForgotten = 16;
  Bytes usual;
  append_message(usual, kToken, 0, 5, "", 0);
  append_message(usual, kToken, 1, 1, "a frame", 0);
  append_message(usual, kToken | kKept, 2, 2, "", 3000);
  append_message(usual, kToken | kRendezvous | kTaken, 3, 3, "a frame", 1 << 20);
  seeds.put("ucx_messages", "usual", usual);
  Bytes gone;
  append_message(gone, kToken | kKept, 0, 3, "a frame", 70'000);
  append_message(gone, kToken | kRendezvous | kForgotten, 1, 4, "", 5000);
  append_message(gone, kToken | kTaken, 2, 1, "a frame", 0);
  seeds.put("ucx_messages", "gone", gone);
  Bytes strange;
  append_message(strange, 0, 0, 1, "of nobody", 0);
  append_message(strange, kToken | kKept, 7, 99, "of no kind", UINT32_MAX);
  seeds.put("ucx_messages", "strange", strange);
}

}  // namespace

void seed_messages(Seeds& seeds) {
  seed_active_messages(seeds);
  constexpr wire::EveryMessageIn<std::tuple>* kAll = nullptr;
  seed_each(seeds, kAll);
  using Kind = wire::DoorFrame::Kind;
  for (const Kind kind : {Kind::read, Kind::write, Kind::here, Kind::refused}) {
    const wire::DoorFrame packet{kind, NodeId{1}, Incarnation{2}, WriterId{3}};
    seeds.put("door_packets", std::to_string(static_cast<int>(kind)), packet.encode());
  }
  using namespace std::string_view_literals;
  for (const auto& [side, name] : {std::pair{"\0"sv, "caller"}, std::pair{"\1"sv, "answerer"}}) {
    const auto say = [&, side = side, name = name](const char* what, std::string_view steps) {
      seeds.put("handshake", std::string(name) + what, std::string(side) + std::string(steps));
    };
    say("_whole", "\0\xff\0\xff\0\xff"sv);
    say("_cut", "\0\1\0\2\0\40\0\100\0\100\0\100\0\100\0\300"sv);
    say("_flipped", "\0\xff\1\24\1\0\xff"sv);
    say("_mixed", "\2\6\0\0\xff\2\5\0\3\0\4MBC1"sv);
  }
}

void seed_memory(Seeds& seeds) {
  const PageMemory memory(4 * sizeof(Seal));
  Seal* const seals = reinterpret_cast<Seal*>(memory.bytes().data());
  write_seal(seals[0], sealed(0, 100));
  write_seal(seals[1], sealed(3, kPageBytes));
  write_lent(seals[2], lent(5));
  const auto one = [&](const std::string& name, std::uint32_t slot, const Seal& seal) {
    Bytes bytes;
    Writer(bytes).put(slot);
    append(bytes, bytes_of_seal(seal));
    seeds.put("seals", name, bytes);
  };
  one("sealed", 0, seals[0]), one("full", 3, seals[1]), one("lent", 5, seals[2]);
  one("free", 0, seals[3]), one("elsewhere", 4, seals[0]);
  seeds.put("arena_file", "empty", arena(0, {}));
  seeds.put("arena_file", "sealed", arena(0, {{0, &seals[0]}, {3, &seals[1]}}));
  seeds.put("arena_file", "mended", arena(6, {{0, &seals[0]}, {3, &seals[1]}}));
  seeds.put("arena_file", "lent", arena(10, {{0, &seals[0]}, {5, &seals[2]}}));
  seed_mapped(seeds, seals[0]);
}

void seed_files(Seeds& seeds) {
  seeds.put("grants", "two_claims", grant());
  const Folder folder;
  CoordinationView view;
  view.revision = 9;
  view.entries = {{"membrain/c/id", "0123", 1, 2, {}}, {"membrain/c/eras/1", "3", 4, 5, {}}};
  const auto file = StateFile::open(folder.path());
  check(file.has_value() && (*file)->save(view).has_value(), "no state can be kept here");
  seeds.put("state_file", "two_entries", file_bytes(folder.path() + "/state"));
}

}  // namespace membrain::fuzz
