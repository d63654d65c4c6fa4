#include "cache/group/group_links.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/codec.h"
#include "base/log.h"
#include "protocol/proofs.h"

namespace membrain {

namespace {

/// Every message but the first one begins with it.
std::uint64_t sequence_of(std::span<const std::byte> body) {
  Reader in(body);
  std::uint64_t sequence = 0;
  in.get(sequence);
  return sequence;
}

}  // namespace

GroupLinks::GroupLinks(Fabric& fabric, GroupTerms terms)
    : fabric_(fabric), terms_(std::move(terms)), closed_(fabric.loop().ready()) {
  fabric_.set_receiver(*this);
}

GroupLinks::~GroupLinks() {
  check(calls_.empty() && closing_ == 0, "GroupLinks were destroyed under a replication");
}

Task<Result<PeerId>> GroupLinks::reach(std::uint32_t rank, TimePoint deadline) {
  if (const auto found = reached_.find(rank); found != reached_.end()) co_return found->second;
  Task<Result<PeerId>> connecting = fabric_.connect(terms_.members[rank], deadline);
  const Result<PeerId> peer = co_await connecting;
  if (!peer) co_return peer;
  peers_[peer->value].proven = true;
  reached_[rank] = *peer;
  wire::GroupHello hello;
  hello.group = terms_.name;
  hello.rank = terms_.rank;
  hello.size = size();
  hello.proof =
      group_proof(terms_.tenant_key, terms_.name, terms_.rank, size(), fabric_.binding(*peer));
  send(*peer, hello);
  co_return *peer;
}

void GroupLinks::attach(std::uint64_t sequence, GroupCall& call) {
  calls_[sequence] = &call;
  next_sequence_ = std::max(next_sequence_, sequence);
  std::vector<std::pair<PeerId, Waiting>> now;
  for (auto& [id, peer] : peers_) {
    std::deque<Waiting> later;
    for (Waiting& one : std::exchange(peer.waiting, {})) {
      const std::uint64_t of = sequence_of(one.body);
      if (of > sequence) later.push_back(std::move(one));
      if (of == sequence) now.emplace_back(PeerId{id}, std::move(one));
    }
    peer.waiting = std::move(later);
  }
  for (auto& [peer, one] : now) {  // not of `peers_`: the call connects to others over it
    if (!peers_.contains(peer.value)) continue;
    if (!deliver(call, peer, one.type, one.body, std::move(one.payload))) abandon(peer);
  }
}

void GroupLinks::detach(std::uint64_t sequence) {
  calls_.erase(sequence);
  next_sequence_ = std::max(next_sequence_, sequence + 1);
  for (auto& [id, peer] : peers_) {
    std::erase_if(peer.waiting,
                  [this](const Waiting& one) { return sequence_of(one.body) < next_sequence_; });
  }
}

void GroupLinks::on_message(PeerId peer, std::span<const std::byte> bytes, Payload payload) {
  if (stopped_) return;
  const auto known = peers_.try_emplace(peer.value).first;
  const Result<wire::Frame> frame = wire::read_frame(bytes);
  if (frame && take(peer, *frame, std::move(payload))) return;
  log(LogLevel::warn, "group {}: a {} sent what makes no sense; it is disconnected", terms_.name,
      known->second.proven ? "member" : "stranger");
  abandon(peer);
}

bool GroupLinks::take(PeerId peer, const wire::Frame& frame, Payload payload) {
  Peer& from = peers_.at(peer.value);
  const wire::Type type = frame.header.type;
  if (type == wire::Type::group_hello) return take_hello(peer, frame.body);
  if (!from.proven) return false;
  const std::uint64_t sequence = sequence_of(frame.body);
  if (const auto call = calls_.find(sequence); call != calls_.end()) {
    return deliver(*call->second, peer, type, frame.body, std::move(payload));
  }
  if (sequence < next_sequence_) return true;  // it is over
  if (from.waiting.size() >= kMaxWaiting) return false;
  from.waiting.push_back({type, {frame.body.begin(), frame.body.end()}, std::move(payload)});
  return true;
}

bool GroupLinks::take_hello(PeerId peer, std::span<const std::byte> body) {
  const auto hello = wire::read_body<wire::GroupHello>(body);
  if (!hello || hello->group != terms_.name || hello->size != size() || hello->rank >= size()) {
    return false;
  }
  const Digest proof =
      group_proof(terms_.tenant_key, hello->group, hello->rank, hello->size, fabric_.binding(peer));
  peers_.at(peer.value).proven = equal_in_constant_time(proof, hello->proof);
  return peers_.at(peer.value).proven;
}

bool GroupLinks::deliver(GroupCall& call, PeerId peer, wire::Type type,
                         std::span<const std::byte> body, Payload payload) {
  const auto tell = [&]<class Message>(bool (GroupCall::*on)(PeerId, const Message&)) {
    const auto message = wire::read_body<Message>(body);
    return message && (call.*on)(peer, *message);
  };
  switch (type) {
    case wire::Type::group_offer:
      return tell(&GroupCall::on_offer);
    case wire::Type::group_blocks: {
      auto blocks = wire::read_body<wire::GroupBlocks>(body);
      return blocks && call.on_blocks(peer, std::move(*blocks), std::move(payload));
    }
    case wire::Type::group_done:
      return tell(&GroupCall::on_done);
    case wire::Type::group_propose:
      return tell(&GroupCall::on_propose);
    case wire::Type::group_answer:
      return tell(&GroupCall::on_answer);
    case wire::Type::group_go:
      return tell(&GroupCall::on_go);
    default:
      return false;
  }
}

// ---- the end of a connection

void GroupLinks::lose(PeerId peer) {
  if (peers_.erase(peer.value) == 0) return;
  std::erase_if(reached_, [&](const auto& entry) { return entry.second == peer; });
  std::vector<GroupCall*> told;
  for (const auto& [sequence, call] : calls_) told.push_back(call);
  for (GroupCall* const call : told) call->on_peer_lost(peer);
}

void GroupLinks::abandon(PeerId peer) {
  if (!peers_.contains(peer.value)) return;
  lose(peer);
  ++closing_;
  loop().spawn(close(peer));
}

Task<> GroupLinks::close(PeerId peer) {
  Task<> closed = fabric_.close(peer);
  co_await closed;
  --closing_;
  closed_.raise();
}

void GroupLinks::on_lost(PeerId peer, const Error&) {
  lose(peer);
}

Task<> GroupLinks::stop() {
  stopped_ = true;
  std::vector<PeerId> open;
  for (const auto& [peer, state] : peers_) open.push_back(PeerId{peer});
  for (const PeerId peer : open) abandon(peer);
  while (closing_ != 0) co_await closed_;
}

}  // namespace membrain
