// ShardService: what arrives at a shard, and what it answers.
#include <string>
#include <type_traits>
#include <utility>

#include "base/log.h"
#include "protocol/proofs.h"
#include "server/shard_service.h"

namespace membrain {

namespace {

using wire::Type;

constexpr Error kNoSession{Errc::denied, 0, "say Hello first"};
constexpr Error kNoNode{Errc::denied, 0, "register first"};

bool equal(const Digest& a, const Digest& b) noexcept {
  return equal_in_constant_time(a, b);
}

}  // namespace

void ShardService::on_message(PeerId peer, std::span<const std::byte> bytes, Payload) {
  if (stopping_) return;
  const Result<wire::Frame> frame = wire::read_frame(bytes);
  if (!frame) return expel(peer, frame.error());
  if (frame->header.type == Type::shards) return tell_shards(peer, *frame);
  if (const Result<> fine = admit(peer, *frame); !fine) return refuse(peer, *frame, fine.error());
  dispatch(peer, *frame);
  if (shard_ == nullptr) return;
  send_untold_frees();
  send_copy_orders();
}

/// Answered whoever leads: where else would one ask?
void ShardService::tell_shards(PeerId peer, const wire::Frame& frame) {
  if (config_.roster != nullptr) {
    const std::shared_ptr<const wire::ShardList> list = config_.roster->list();
    if (list != nullptr) return send(peer, frame, *list);
    return refuse(peer, frame, {Errc::unavailable, 0, "this server has no map of shards yet"});
  }
  send(peer, frame, wire::ShardList{1, {{config_.shard, 0, leads() ? address_ : leader_}}});
}

/// Whether a frame is for this shard, in its present term.
Result<> ShardService::admit(PeerId, const wire::Frame& frame) const {
  if (frame.header.shard != config_.shard) {
    return fail(Errc::invalid_argument, "this server has no such shard");
  }
  // The clock, not the turn's time: this process may just have been stopped for a while.
  if (shard_ == nullptr || !tenure_->holds(fabric_.loop().clock().now())) {
    return fail(Errc::unavailable, "this server does not lead the shard");
  }
  if (frame.header.epoch > shard_->epoch()) {
    return fail(Errc::unavailable, "a later epoch has begun elsewhere");
  }
  return {};
}

void ShardService::dispatch(PeerId peer, const wire::Frame& frame) {
  switch (frame.header.type) {
    case Type::hello:
      return serve<wire::Hello>(peer, frame,
                                [&](const wire::Hello& request) { return hello(peer, request); });
    case Type::register_node:
      return serve<wire::RegisterNode>(peer, frame, [&](const wire::RegisterNode& request) {
        return register_node(peer, request);
      });
    case Type::open_namespace:
    case Type::heartbeat:
    case Type::lookup:
    case Type::unpin:
    case Type::grant:
    case Type::clear:
    case Type::probe_parts:
    case Type::stats:
    case Type::nodes:
      return dispatch_client(peer, frame);
    case Type::publish:
    case Type::need_slots:
    case Type::freed:
    case Type::report:
    case Type::corrupt:
    case Type::node_heartbeat:
    case Type::copies_ended:
    case Type::leave:
      return dispatch_node(peer, frame);
    case Type::refused:
      return;  // an answer, perhaps to FreeSlots: it is repeated anyway
    default:
      return refuse(peer, frame, {Errc::invalid_argument, 0, "no request that is known here"});
  }
}

void ShardService::dispatch_client(PeerId peer, const wire::Frame& frame) {
  Shard& shard = *shard_;
  const TimePoint now = loop().now();
  const auto by_session = [&](auto method) {
    return [&shard, now, method](SessionId, const auto& request) {
      return (shard.*method)(request, now);
    };
  };
  switch (frame.header.type) {
    case Type::open_namespace:
      return serve_client<wire::OpenNamespace>(
          peer, frame, [&](SessionId session, const wire::OpenNamespace& request) {
            return shard.open(session, request, now);
          });
    case Type::heartbeat:
      return serve_client<wire::Heartbeat>(
          peer, frame,
          [&](SessionId session, const wire::Heartbeat&) { return shard.heartbeat(session, now); });
    case Type::lookup:
      return serve_client<wire::Lookup>(peer, frame, by_session(&Shard::lookup));
    case Type::unpin:
      return serve_client<wire::Unpin>(peer, frame, by_session(&Shard::unpin));
    case Type::grant:
      return serve_client<wire::Grant>(peer, frame, by_session(&Shard::grant));
    case Type::clear:
      return clear(peer, frame);
    case Type::probe_parts:
      return serve_client<wire::ProbeParts>(peer, frame, by_session(&Shard::probe_parts));
    case Type::stats:
      return serve_client<wire::Stats>(
          peer, frame, [&](SessionId, const wire::Stats&) { return shard.stats(); });
    default:
      return serve_client<wire::Nodes>(peer, frame, [&](SessionId session, const wire::Nodes&) {
        return shard.list_nodes(session, now);
      });
  }
}

void ShardService::dispatch_node(PeerId peer, const wire::Frame& frame) {
  Shard& shard = *shard_;
  const TimePoint now = loop().now();
  const auto by = [&](auto method) {
    return [&shard, now, method](const auto& request) { return (shard.*method)(request, now); };
  };
  switch (frame.header.type) {
    case Type::publish:
      return serve_node<wire::Publish>(peer, frame, by(&Shard::publish));
    case Type::need_slots:
      return serve_node<wire::NeedSlots>(peer, frame, by(&Shard::need_slots));
    case Type::freed:
      return serve_node<wire::Freed>(peer, frame, by(&Shard::freed));
    case Type::report:
      return serve_node<wire::Report>(peer, frame, by(&Shard::report));
    case Type::corrupt:
      return serve_node<wire::Corrupt>(peer, frame, by(&Shard::corrupt));
    case Type::copies_ended:
      return serve_node<wire::CopiesEnded>(peer, frame, by(&Shard::copies_ended));
    case Type::leave:
      return serve_node<wire::Leave>(peer, frame, by(&Shard::leave));
    default:
      serve_node<wire::NodeHeartbeat>(peer, frame, by(&Shard::node_heartbeat));
      if (const auto known = peers_.find(peer.value); known != peers_.end()) {
        send_free(shard.repeated_frees(known->second.node, now));
      }
  }
}

/// Decodes, serves, answers.
template <class Request, class Serve>
void ShardService::serve(PeerId peer, const wire::Frame& frame, Serve serve) {
  const Result<Request> request = wire::read_body<Request>(frame.body);
  if (!request) return expel(peer, request.error());
  const auto answer = serve(*request);
  if (!answer) return refuse(peer, frame, answer.error());
  send(peer, frame, *answer);
}

/// Only in the session that this very connection opened.
template <class Request, class Method>
void ShardService::serve_client(PeerId peer, const wire::Frame& frame, Method method) {
  serve<Request>(peer, frame, [&](const Request& request) {
    using Answer = std::invoke_result_t<Method, SessionId, const Request&>;
    const auto known = peers_.find(peer.value);
    if (known == peers_.end() || !known->second.session) return Answer(fail(kNoSession));
    const SessionId session = known->second.session;
    if constexpr (requires { request.session; }) {
      if (request.session != session) return Answer(fail(kNoSession));
    }
    return method(session, request);
  });
}

/// Only of the node that registered on this very connection, while it has no newer one.
template <class Request, class Method>
void ShardService::serve_node(PeerId peer, const wire::Frame& frame, Method method) {
  serve<Request>(peer, frame, [&](const Request& request) {
    using Answer = std::invoke_result_t<Method, const Request&>;
    const auto known = peers_.find(peer.value);
    const bool proved = known != peers_.end() && known->second.node &&
                        known->second.node == request.node &&
                        known->second.incarnation == request.incarnation;
    if (!proved) return Answer(fail(kNoNode));
    const auto latest = node_peers_.find(request.node);
    if (latest == node_peers_.end() || latest->second != peer) return Answer(fail(kNoNode));
    return method(request);
  });
}

template <class Message>
void ShardService::send(PeerId peer, const wire::Frame& to, const Message& message) {
  wire::Header header;
  header.op = to.header.op;
  header.shard = config_.shard;
  if (shard_ != nullptr) header.epoch = shard_->epoch();
  // What cannot be sent shows as a lost peer; its request comes again if it still matters.
  static_cast<void>(fabric_.send(peer, wire::write_frame(frame_, header, message)));
}

void ShardService::refuse(PeerId peer, const wire::Frame& to, const Error& why) {
  send(peer, to, wire::Refused{why.code, std::string(why.context)});
}

// ---- proofs

Result<wire::Welcome> ShardService::hello(PeerId peer, const wire::Hello& hello) {
  const Digest key = tenant_key(config_.secret, hello.tenant);
  if (!equal(hello.proof, hello_proof(key, hello.tenant, fabric_.binding(peer)))) {
    log(LogLevel::warn, "a client of tenant \"{}\" has another secret: refused", hello.tenant);
    return fail(Errc::denied, "the proof is wrong: is the secret the same?");
  }
  const TimePoint now = loop().now();
  Peer& known = peers_[peer.value];
  if (known.node) return fail(Errc::denied, "this connection is a node's");
  if (known.session) {
    const Result<wire::Welcome> again = shard_->welcome(known.session, now);
    if (again && known.resumed == hello.resume) return again;
    shard_->disconnected(known.session);
  }
  const SessionId fresh{config_.random()};
  const Result<wire::Welcome> welcome = shard_->hello(hello, fresh, now);
  known.session = welcome ? fresh : SessionId{};
  known.resumed = hello.resume;
  return welcome;
}

Result<wire::Accepted> ShardService::register_node(PeerId peer, const wire::RegisterNode& request) {
  const Digest proof =
      register_proof(config_.secret, request.node, request.incarnation, fabric_.binding(peer));
  if (!equal(request.proof, proof)) {
    log(LogLevel::warn, "node {} at {} has another secret: refused", request.node.value,
        request.address);
    return fail(Errc::denied, "the proof is wrong: is the secret the same?");
  }
  Peer& known = peers_[peer.value];
  if (known.session) return fail(Errc::denied, "this connection is a client's");
  const auto latest = node_peers_.find(request.node);
  const bool here = latest != node_peers_.end() && latest->second == peer;
  const bool same = known.node == request.node && known.incarnation == request.incarnation;
  if (same && here && shard_->registered(request.node, request.incarnation)) {
    return shard_->accepted();  // asked again
  }
  if (known.node && !same) return fail(Errc::denied, "this connection is another node's");
  if (same && !here) return fail(Errc::stale, "this node has a newer connection");
  const Result<wire::Accepted> accepted = shard_->register_node(request, loop().now());
  if (!accepted) return accepted;
  known.node = request.node;
  known.incarnation = request.incarnation;
  node_peers_[request.node] = peer;
  return accepted;
}

// ---- clears

/// Answered when the new era is kept for every later term.
void ShardService::clear(PeerId peer, const wire::Frame& frame) {
  const Result<wire::Clear> request = wire::read_body<wire::Clear>(frame.body);
  if (!request) return expel(peer, request.error());
  const auto known = peers_.find(peer.value);
  if (known == peers_.end() || !known->second.session ||
      known->second.session != request->session) {
    return refuse(peer, frame, kNoSession);
  }
  const Result<Era> era = shard_->era_after_clear(*request, loop().now());
  if (!era) return refuse(peer, frame, era.error());
  if (*era != Era{request->era.value + 1}) return send(peer, frame, wire::Cleared{*era});
  if (clearing_ == kMaxClears) {
    return refuse(peer, frame, {Errc::out_of_capacity, 0, "too many clears at once"});
  }
  loop().spawn(begin_era(peer, frame.header, request->space, *era));
}

Task<> ShardService::begin_era(PeerId peer, wire::Header header, NamespaceId space, Era era) {
  ++clearing_;
  const Epoch epoch = shard_->epoch();
  Task<Result<>> keeping = tenure_->set_era(epoch, space, era);
  Result<> kept = co_await keeping;
  --clearing_;
  const bool leads = shard_ != nullptr && shard_->epoch() == epoch;
  if (kept && !leads) kept = fail(Errc::unavailable, "this server leads no more");
  const wire::Frame to{header, {}};
  if (!kept) {
    refuse(peer, to, kept.error());
    co_return;
  }
  shard_->begin_era(space, era);
  send(peer, to, wire::Cleared{era});
}

// ---- frees

void ShardService::send_free(const wire::FreeSlots& message) {
  if (message.items.empty()) return;
  const auto peer = node_peers_.find(message.node);
  if (peer == node_peers_.end()) return;  // away; it registers anew, or is lost
  send(peer->second, wire::Frame{}, message);
}

void ShardService::send_untold_frees() {
  for (const wire::FreeSlots& message : shard_->untold_frees(loop().now())) send_free(message);
}

void ShardService::send_copy_orders() {
  for (const wire::CopyBlocks& message : shard_->copy_orders(loop().now())) {
    const auto peer = node_peers_.find(message.node);
    if (peer != node_peers_.end()) send(peer->second, wire::Frame{}, message);
  }
}

}  // namespace membrain
