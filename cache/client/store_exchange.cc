#include "cache/client/store_exchange.h"

#include <utility>

#include "base/log.h"
#include "cache/client/fetch_exchange.h"
#include "cache/memory/straight.h"

namespace membrain {

StoreExchange::StoreExchange(NodeLinks& links, NodeId node, wire::Store message,
                             SegmentList payload, TimePoint deadline)
    : StoreExchange(links, node, StoreRequest(std::move(message)), deadline) {
  payload_ = std::move(payload);
}

StoreExchange::StoreExchange(NodeLinks& links, std::shared_ptr<const WritableArena> arena,
                             wire::ReserveSlots message, TimePoint deadline)
    : StoreExchange(links, arena->node(), StoreRequest(std::move(message)), deadline) {
  arena_ = std::move(arena);
}

StoreExchange::StoreExchange(NodeLinks& links, NodeId node, wire::SealSlots message,
                             TimePoint deadline)
    : StoreExchange(links, node, StoreRequest(std::move(message)), deadline) {}

StoreExchange::StoreExchange(NodeLinks& links, NodeId node, StoreRequest message,
                             TimePoint deadline)
    : links_(links),
      fabric_(links.fabric()),
      loop_(links.loop()),
      node_(node),
      message_(std::move(message)),
      deadline_(deadline),
      signal_(loop_.ready()),
      timer_(loop_, [this] { signal_.raise(); }) {}

Task<StoreAnswer> StoreExchange::run() {
  timer_.arm(deadline_);
  enter();
  while (!ended()) {
    if (loop_.now() >= deadline_) stop(Errc::timed_out);
    if (!answered_ && !peer_) try_to_begin();
    close_if_hung();
    if (!ended()) co_await signal_;
  }
  timer_.cancel();
  links_.forget(node_, signal_);
  if (op_) links_.detach(op_);
  links_.lanes().lane(node_).breaker().give_back(pass_);  // if there was no verdict
  co_return std::move(answer_);
}

void StoreExchange::enter() {
  entered_ = loop_.now();
  Breaker& breaker = links_.lanes().lane(node_).breaker();
  if (breaker.admits(entered_)) {
    pass_ = breaker.enter(entered_);
  } else if (!std::holds_alternative<wire::SealSlots>(message_)) {
    give_up(Errc::peer_lost, "the node is avoided");
  }
}

void StoreExchange::try_to_begin() {
  const std::optional<Result<PeerId>> reached = links_.reach(node_, signal_);
  if (!reached) return;
  if (*reached) return begin(**reached);
  give_up(reached->error().code, reached->error().context);
}

void StoreExchange::begin(PeerId peer) {
  peer_ = peer;
  answer_.lane = fabric_.lane(peer);
  if (payload_.on_device() && !may_leave(fabric_.device_payloads(peer), false)) {
    return give_up(Errc::unavailable, "no way from a GPU's memory to that node");
  }
  op_ = links_.calls().next_op();
  std::vector<std::byte> frame;
  std::visit(
      [&](auto& message) {
        message.deadline_ms = milliseconds_left(loop_.now(), deadline_);
        wire::Header head;
        head.op = op_;
        head.epoch = message.proof.epoch;
        wire::write_frame(frame, head, message);
      },
      message_);
  links_.attach(op_, peer, *this);
  if (!std::holds_alternative<wire::Store>(message_)) {
    if (const Result<> sent = fabric_.send(peer, frame); !sent) links_.abandon(peer);
    return;
  }
  sending_ = true;
  loop_.spawn(await_sent(std::move(frame)));
}

/// The memory is the fabric's until `sent` has ended.
Task<> StoreExchange::await_sent(std::vector<std::byte> frame) {
  Completion sent(loop_.ready());
  fabric_.send(peer_, frame, payload_.to_send(), sent);
  const Result<> outcome = co_await sent;
  sending_ = false;
  if (!outcome) {
    links_.abandon(peer_);  // if that is not known yet
    give_up(Errc::peer_lost, "the bytes could not be sent");
  }
  signal_.raise();
}

void StoreExchange::give_up(Errc why, std::string_view context) {
  if (std::exchange(answered_, true)) return;
  answer_.outcome = fail(why, context);
}

void StoreExchange::stop(Errc why) {
  if (std::exchange(stopped_, true)) return;
  const TimePoint now = loop_.now();
  const bool silent = !answered_ && why == Errc::timed_out && now - entered_ >= kFairChance;
  if (silent) links_.lanes().failed(node_, now, pass_);
  give_up(why, "the store did not end in time");
  drained_by_ = loop_.now() + kDrain;
  timer_.arm(drained_by_);
  signal_.raise();
}

/// A send that has not ended kDrain after the stop ends with its connection.
void StoreExchange::close_if_hung() {
  if (!stopped_ || closing_ || !sending_ || loop_.now() < drained_by_) return;
  closing_ = true;
  log(LogLevel::warn, "node {} hangs in a transfer: closed", node_.value);
  links_.abandon(peer_);
}

void StoreExchange::on_frame(const wire::Frame& frame, Payload) {
  if (answered_) return;
  links_.lanes().lane(node_).breaker().succeeded();
  if (frame.header.type == wire::Type::refused) {
    const Result<wire::Refused> refused = wire::read_body<wire::Refused>(frame.body);
    give_up(refused ? refused->code : Errc::corrupt, "refused by the node");
  } else if (frame.header.type == wire::Type::stored && !arena_) {
    take_stored(frame);
  } else if (frame.header.type == wire::Type::reserved_slots && arena_) {
    take_reserved(frame);
  }
  signal_.raise();
}

std::size_t StoreExchange::item_count() const noexcept {
  return std::visit([](const auto& message) { return message.items.size(); }, message_);
}

void StoreExchange::take_stored(const wire::Frame& frame) {
  Result<wire::Stored> stored = wire::read_body<wire::Stored>(frame.body);
  if (!stored || stored->statuses.size() != item_count()) {
    return give_up(Errc::corrupt, "an answer that does not fit the store");
  }
  answered_ = true;
  answer_.statuses = std::move(stored->statuses);
}

void StoreExchange::take_reserved(const wire::Frame& frame) {
  Result<wire::ReservedSlots> reserved = wire::read_body<wire::ReservedSlots>(frame.body);
  if (!reserved || reserved->items.size() != item_count()) {
    return give_up(Errc::corrupt, "an answer that does not fit the reservation");
  }
  arena_->begin(*reserved);
  answered_ = true;
  answer_.reserved = std::move(*reserved);
}

void StoreExchange::on_peer_lost() {
  give_up(Errc::peer_lost, "the connection was lost");
  signal_.raise();
}

}  // namespace membrain
