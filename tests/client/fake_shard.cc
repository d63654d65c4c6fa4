// The shard of a fake cluster.
#include <algorithm>
#include <utility>

#include "base/mac.h"
#include "protocol/proofs.h"
#include "tests/client/fake_cluster.h"

namespace membrain::client_test {

FakeShard::FakeShard(SimNetwork& network, ManualClock& clock, const std::string& process)
    : FakeProcess(network, clock, process) {
  EXPECT_TRUE(fabric().listen(process + ":9201"));
}

void FakeShard::take(PeerId peer, const wire::Frame& frame, Payload) {
  const OpId op = frame.header.op;
  const wire::Type type = frame.header.type;
  if (type == wire::Type::shards) return answer(peer, op, shards);
  if (type != wire::Type::heartbeat && type != wire::Type::nodes) ++requests;
  switch (frame.header.type) {
    case wire::Type::hello:
      return take_hello(peer, op, wire::read_body<wire::Hello>(frame.body).value());
    case wire::Type::nodes: {
      ++node_lists;
      wire::NodeList list;
      for (const FakeNode* node : nodes) list.nodes.push_back(node->entry());
      return answer(peer, op, list);
    }
    case wire::Type::open_namespace: {
      ++opened;
      const auto request = wire::read_body<wire::OpenNamespace>(frame.body).value();
      return answer(peer, op, wire::NamespaceOpened{namespace_id(request.digest), Era{era}, false});
    }
    default:
      if (!silent) take_rest(peer, frame);
  }
}

void FakeShard::take_rest(PeerId peer, const wire::Frame& frame) {
  const OpId op = frame.header.op;
  switch (frame.header.type) {
    case wire::Type::heartbeat:
      return answer(peer, op, wire::Alive{1});
    case wire::Type::lookup:
      lookups.push_back(wire::read_body<wire::Lookup>(frame.body).value());
      if (unwelcome && lookups.back().lookup == unwelcome) {
        return answer(peer, op, wire::Refused{Errc::out_of_capacity, "no"});
      }
      return answer(peer, op, find(lookups.back()));
    case wire::Type::unpin:
      return take_unpin(peer, op, wire::read_body<wire::Unpin>(frame.body).value());
    case wire::Type::grant: {
      const auto request = wire::read_body<wire::Grant>(frame.body).value();
      wire::Granted granted;
      granted.proof.session = request.session;
      granted.proof.epoch = epoch;
      granted.proof.grant = request.lookup;
      granted.proof.expires_ms = 12345;
      granted.proof.mac.fill(std::byte{0x5a});
      return answer(peer, op, granted);
    }
    case wire::Type::clear:
      if (hold_clears) return;
      return answer(peer, op, wire::Cleared{Era{++era}});
    case wire::Type::probe_parts:
      return take_probe(peer, op, wire::read_body<wire::ProbeParts>(frame.body).value());
    case wire::Type::stats:
      return answer(peer, op, wire::StatsReply{{{"blocks", catalog.size()}}});
    default:
      ADD_FAILURE() << "the shard got a message of another kind";
  }
}

void FakeShard::take_hello(PeerId peer, OpId op, const wire::Hello& hello) {
  const Digest key = tenant_key(kSecret, hello.tenant);
  const Digest proof = hello_proof(key, hello.tenant, fabric().binding(peer));
  if (deny || proof != hello.proof) return answer(peer, op, wire::Refused{Errc::denied, "no"});
  hellos.push_back(hello);
  wire::Welcome welcome;
  welcome.proof.session = SessionId{next_session_++};
  welcome.proof.epoch = epoch;
  welcome.ttl_ms = ttl_ms;
  welcome.max_keys = max_keys;
  answer(peer, op, welcome);
}

void FakeShard::take_unpin(PeerId peer, OpId op, const wire::Unpin& unpin) {
  unpins.push_back(unpin);
  for (const wire::UnpinItem& item : unpin.items) {
    if (item.keys.empty()) pins.erase({unpin.session, item.lookup});
  }
  if (deaf_to_unpins > 0) {
    --deaf_to_unpins;
  } else {
    answer(peer, op, wire::Unpinned{});
  }
}

void FakeShard::take_probe(PeerId peer, OpId op, const wire::ProbeParts& probe) {
  probes.push_back(probe);
  if (deaf_to_probes) return;
  wire::ProbedParts known;
  known.bitmap.resize((probe.parts.size() + 7) / 8);
  for (std::size_t i = 0; i < probe.parts.size(); ++i) {
    const auto block = catalog.find(probe.parts[i].key);
    const bool there = block != catalog.end() && block->second.size() > probe.parts[i].part &&
                       !block->second[probe.parts[i].part].empty();
    if (there) known.bitmap[i / 8] = static_cast<std::uint8_t>(known.bitmap[i / 8] | 1U << (i % 8));
  }
  if (short_probe_answers) known.bitmap.resize(1);
  answer(peer, op, known);
}

wire::Found FakeShard::find(const wire::Lookup& lookup) {
  wire::Found found;
  found.lookup = lookup.lookup;
  for (const wire::LookupSection& section : lookup.sections) {
    found.sections.push_back(find_section(section, lookup.mode));
    if (!found.sections.back().locations.empty()) pins.emplace(lookup.session, lookup.lookup);
  }
  return found;
}

wire::FoundSection FakeShard::find_section(const wire::LookupSection& section,
                                           wire::LookupMode mode) {
  wire::FoundSection found;
  found.era = Era{era};
  found.bitmap.resize((section.keys.size() + 7) / 8);
  bool unbroken = true;
  for (std::uint32_t i = 0; i < section.keys.size(); ++i) {
    const auto block = catalog.find(section.keys[i]);
    const bool there = block != catalog.end() && block->second.size() >= section.parts;
    const bool ghost = ghosts.contains(section.keys[i]);
    unbroken = unbroken && (there || ghost);
    if (unbroken) found.prefix_blocks = i + 1;
    if (there || ghost) {
      found.bitmap[i / 8] = static_cast<std::uint8_t>(found.bitmap[i / 8] | 1U << (i % 8));
    }
    if (!there) continue;
    const bool pinned = unbroken || section.rule == wire::LookupRule::all;
    if (mode == wire::LookupMode::probe || !pinned) continue;
    for (std::uint16_t part = 0; part < section.parts; ++part) {
      for (const Location& at : block->second[part]) found.locations.push_back({i, part, tier, at});
    }
  }
  return found;
}

}  // namespace membrain::client_test
