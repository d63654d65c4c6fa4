#include "tests/sim/rogue.h"

#include <fmt/format.h>

#include <array>
#include <string>
#include <utility>

namespace membrain::sim {

namespace {
constexpr std::chrono::milliseconds kPatience{200};
constexpr std::string_view kName = "rogue";
}  // namespace

Rogue::Rogue(Cluster& cluster, Ledger& ledger)
    : cluster_(cluster),
      ledger_(ledger),
      loop_(cluster.clock()),
      fabric_(cluster.network().make_fabric(loop_, kName)),
      calls_(*fabric_) {
  fabric_->set_receiver(*this);
}

Rogue::~Rogue() {
  cluster_.network().kill(kName);
  calls_.cancel_all();
  while (loop_.running_tasks() > 0) cluster_.network().step();
}

void Rogue::try_something() {
  draw(3) == 0 ? try_a_server() : try_a_node();
}

std::optional<wire::SessionProof> Rogue::stolen_proof() {
  const std::shared_ptr<ClientLife> client = cluster_.client(draw(cluster_.client_count()));
  if (!client || !client->started) return std::nullopt;
  ClusterSession& cluster = client->core.cluster();
  if (cluster.map().count() == 0) return std::nullopt;
  const wire::SessionProof proof = cluster.session(draw(cluster.map().count())).proof();
  if (!proof.session) return std::nullopt;
  return proof;
}

/// Everything that one must know of a block to be sent it.
std::optional<wire::FetchItem> Rogue::sealed_slot(const NodeLife& node) {
  std::optional<wire::FetchItem> item;
  std::uint64_t seen = 0;
  node.service.for_each_sealed([&](const wire::SlotEntry& entry, std::span<const std::byte>) {
    if (draw(++seen) != 0) return;
    item = {entry.meta.space, entry.meta.key,
            entry.meta.part,  entry.slot,
            entry.generation, 0,
            entry.length,     0};
  });
  return item;
}

void Rogue::try_a_node() {
  constexpr std::array<std::string_view, 4> kTricks = {
      "proof altered", "another's session in a proof", "grant made of a session's proof",
      "key guessed"};
  const std::size_t index = draw(cluster_.node_count());
  const NodeLife* const node = cluster_.node(index);
  std::optional<wire::SessionProof> proof = stolen_proof();
  if (node == nullptr || !proof) return;
  std::optional<wire::FetchItem> item = sealed_slot(*node);
  if (!item) return;
  const auto trick = static_cast<Trick>(draw(kTricks.size()));
  if (trick == Trick::altered) proof->mac[draw(proof->mac.size())] ^= std::byte{1};
  if (trick == Trick::anothers_session) ++proof->session.value;
  if (trick == Trick::made_a_grant) proof->grant = LookupId{1 + draw(9)}, proof->expires_ms = ~0u;
  if (trick == Trick::guessed_key) item->key.low ^= 1 + draw(9);
  const std::string_view name = kTricks[static_cast<std::size_t>(trick)];
  ledger_.counts.fault(name);
  wire::Fetch request;
  request.proof = *proof;
  request.deadline_ms = kPatience.count();
  request.items.push_back(*item);
  loop_.spawn(fetch(fmt::format("node{}:data", index), std::move(request), name));
}

Task<> Rogue::fetch(Address node, wire::Fetch request, std::string_view trick) {
  Task<Result<PeerId>> connecting = fabric_->connect(std::move(node), loop_.now() + kPatience);
  const Result<PeerId> peer = co_await connecting;
  if (!peer) co_return;
  wire::Header header;
  header.op = calls_.next_op();
  header.epoch = request.proof.epoch;
  tricks_[header.op] = trick;
  std::vector<std::byte> frame;
  static_cast<void>(fabric_->send(*peer, wire::write_frame(frame, header, request)));
  const TimePoint answered = loop_.now() + kPatience;
  co_await loop_.sleep_until(answered);
  tricks_.erase(header.op);
  Task<> closing = fabric_->close(*peer);
  co_await closing;
}

void Rogue::try_a_server() {
  const bool as_client = draw(2) == 0;
  ledger_.counts.fault(as_client ? "client without the secret" : "node without the secret");
  const Address server = fmt::format("server{}", draw(cluster_.server_count()));
  loop_.spawn(call_server(server, as_client));
}

Task<> Rogue::call_server(Address server, bool as_client) {
  const TimePoint deadline = loop_.now() + kPatience;
  Task<Result<PeerId>> connecting = fabric_->connect(std::move(server), deadline);
  const Result<PeerId> peer = co_await connecting;
  if (!peer) co_return;
  wire::Hello hello;
  hello.tenant = tenant_name(draw(2));
  hello.label = kName;
  wire::RegisterNode node;
  node.node = NodeId{static_cast<std::uint32_t>(1 + draw(cluster_.node_count()))};
  node.incarnation = Incarnation{1000};
  node.address = "rogue:data";
  Result<> granted;
  if (as_client) {
    Task<Result<wire::Welcome>> asking = calls_.call<wire::Welcome>(*peer, hello, deadline);
    const Result<wire::Welcome> answer = co_await asking;
    if (!answer) granted = fail(answer.error());
  } else {
    Task<Result<wire::Accepted>> asking = calls_.call<wire::Accepted>(*peer, node, deadline);
    const Result<wire::Accepted> answer = co_await asking;
    if (!answer) granted = fail(answer.error());
  }
  if (granted) ledger_.violation("S5: a server took in somebody who does not know the secret");
  Task<> closing = fabric_->close(*peer);
  co_await closing;
}

void Rogue::on_message(PeerId peer, std::span<const std::byte> bytes, Payload) {
  const Result<wire::Frame> frame = wire::read_frame(bytes);
  if (!frame || calls_.on_frame(peer, *frame)) return;
  const auto trick = tricks_.find(frame->header.op);
  if (frame->header.type != wire::Type::data || trick == tricks_.end()) return;
  const Result<wire::Data> data = wire::read_body<wire::Data>(frame->body);
  for (const wire::DataItem& item : data ? data->items : std::vector<wire::DataItem>{}) {
    if (item.status != wire::ItemStatus::ok) continue;
    ledger_.violation(fmt::format("S5: a node sent a block to a stranger ({})", trick->second));
  }
}

void Rogue::on_lost(PeerId peer, const Error&) {
  calls_.on_lost(peer);
}

}  // namespace membrain::sim
