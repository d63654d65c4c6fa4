#include "cache/client/store_exchange.h"

#include <utility>

#include "base/log.h"
#include "cache/client/fetch_exchange.h"

namespace membrain {

StoreExchange::StoreExchange(NodeLinks& links, NodeId node, wire::Store message,
                             SegmentList payload, TimePoint deadline)
    : links_(links),
      fabric_(links.fabric()),
      loop_(links.loop()),
      node_(node),
      message_(std::move(message)),
      payload_(std::move(payload)),
      deadline_(deadline),
      signal_(loop_.ready()),
      timer_(loop_, [this] { signal_.raise(); }) {}

Task<StoreAnswer> StoreExchange::run() {
  timer_.arm(deadline_);
  while (!ended()) {
    if (loop_.now() >= deadline_) stop(Errc::timed_out);
    if (!answered_ && !peer_) try_to_begin();
    close_if_hung();
    if (!ended()) co_await signal_;
  }
  timer_.cancel();
  links_.forget(node_, signal_);
  if (op_) links_.detach(op_);
  co_return std::move(answer_);
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
  op_ = links_.calls().next_op();
  message_.deadline_ms = milliseconds_left(loop_.now(), deadline_);
  std::vector<std::byte> frame;
  wire::Header head;
  head.op = op_;
  head.epoch = message_.proof.epoch;
  wire::write_frame(frame, head, message_);
  links_.attach(op_, peer, *this);
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
  if (frame.header.type == wire::Type::refused) {
    const Result<wire::Refused> refused = wire::read_body<wire::Refused>(frame.body);
    give_up(refused ? refused->code : Errc::corrupt, "refused by the node");
  } else if (frame.header.type == wire::Type::stored) {
    Result<wire::Stored> stored = wire::read_body<wire::Stored>(frame.body);
    if (stored && stored->statuses.size() == message_.items.size()) {
      answered_ = true;
      answer_.statuses = std::move(stored->statuses);
    } else {
      give_up(Errc::corrupt, "an answer that does not fit the store");
    }
  }
  signal_.raise();
}

void StoreExchange::on_peer_lost() {
  give_up(Errc::peer_lost, "the connection was lost");
  signal_.raise();
}

}  // namespace membrain
