#include "protocol/calls.h"

#include <algorithm>
#include <utility>

namespace membrain {

/// One call under way: lives in the frame of `exchange`.
struct Calls::Pending {
  Pending(Loop& loop, PeerId to, wire::Type type)
      : peer(to), expected(type), answered(loop.ready()) {}
  PeerId peer;
  wire::Type expected;
  Completion answered;
  std::vector<std::byte> body;
};

Calls::Calls(Fabric& fabric, Duration resend) : fabric_(fabric), resend_(resend) {}

Calls::~Calls() {
  check(pending_.empty(), "Calls were destroyed with calls under way");
}

Task<Result<std::vector<std::byte>>> Calls::exchange(PeerId peer, OpId op,
                                                     std::vector<std::byte> frame,
                                                     wire::Type expected, TimePoint deadline,
                                                     Late late) {
  if (pending_.size() >= kMaxCalls) co_return fail(Errc::out_of_capacity, "calls under way");
  if (const Result<> sent = fabric_.send(peer, frame); !sent) co_return fail(sent.error());
  Loop& loop = fabric_.loop();
  Pending pending(loop, peer, expected);
  pending_.emplace(op.value, &pending);

  // One timer serves both: it sends again until the deadline has come, then ends the call.
  Timer timer(loop, [] {});
  timer.set_fire([&] {
    if (loop.now() >= deadline) return end(pending, fail(Errc::timed_out, "no answer in time"));
    if (const Result<> sent = fabric_.send(peer, frame); !sent) {
      return end(pending, fail(sent.error()));
    }
    timer.arm(std::min(deadline, loop.now() + resend_));
    if (late) late();
  });
  timer.arm(std::min(deadline, loop.now() + resend_));

  const Result<> outcome = co_await pending.answered;
  pending_.erase(op.value);
  if (!outcome) co_return fail(outcome.error());
  co_return std::move(pending.body);
}

bool Calls::on_frame(PeerId peer, const wire::Frame& frame) {
  const auto found = pending_.find(frame.header.op.value);
  if (found == pending_.end() || found->second->peer != peer) return false;
  Pending& pending = *found->second;
  if (pending.answered.done()) return true;  // answered twice within one turn
  if (frame.header.type == wire::Type::refused) {
    const Result<wire::Refused> refused = wire::read_body<wire::Refused>(frame.body);
    end(pending, fail(refused ? refused->code : Errc::corrupt, "refused by the peer"));
    return true;
  }
  if (frame.header.type != pending.expected) return false;
  pending.body.assign(frame.body.begin(), frame.body.end());
  end(pending, {});
  return true;
}

void Calls::on_lost(PeerId peer) {
  for (const auto& [op, pending] : pending_) {
    if (pending->peer == peer) end(*pending, fail(Errc::peer_lost, "the connection was lost"));
  }
}

void Calls::cancel_all() {
  for (const auto& [op, pending] : pending_) {
    end(*pending, fail(Errc::cancelled, "shutting down"));
  }
}

void Calls::end(Pending& pending, const Result<>& outcome) {
  if (!pending.answered.done()) pending.answered.finish(outcome);
}

}  // namespace membrain
