#include "cache/client/door_opener.h"

#include <array>
#include <utility>

#include "protocol/door.h"
#include "transport/fd_passing.h"
#include "transport/signal.h"

namespace membrain {

namespace {

/// Raises a signal when a socket can be read, or the time is up.
class Answer final : private FdHandler {
 public:
  Answer(Loop& loop, const Descriptor& socket, TimePoint deadline)
      : loop_(loop), socket_(socket), signal_(loop.ready()), timer_(loop, [this] { expire(); }) {
    watched_ = loop.watch(socket.fd(), EPOLLIN, *this).has_value();
    timer_.arm(deadline);
  }
  ~Answer() {
    if (watched_) loop_.unwatch(socket_.fd());
  }
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;

  [[nodiscard]] Signal& signal() noexcept { return signal_; }
  [[nodiscard]] bool over() const noexcept { return expired_ || !watched_; }

 private:
  void on_ready(std::uint32_t) override { signal_.raise(); }
  void expire() {
    expired_ = true;
    signal_.raise();
  }

  Loop& loop_;
  const Descriptor& socket_;
  Signal signal_;
  Timer timer_;
  bool watched_ = false;
  bool expired_ = false;
};

}  // namespace

Task<Result<HandedOut>> ask_at_door(Loop& loop, wire::NodeEntry node, bool writable,
                                    TimePoint deadline) {
  using Kind = wire::DoorFrame::Kind;
  Result<Descriptor> socket = local::connect(node.door);
  if (!socket) co_return fail(socket.error());
  if (!local::of_this_user(*socket)) co_return fail(Errc::denied, "a door of another user");
  const wire::DoorFrame asked{writable ? Kind::write : Kind::read, node.node, node.incarnation};
  if (!local::send(*socket, asked.encode(), Descriptor())) {
    co_return fail(Errc::unavailable, "nobody is behind the door");
  }
  Answer answer(loop, *socket, deadline);
  std::array<std::byte, wire::DoorFrame::kBytes> packet{};
  local::Received received = local::receive(*socket, packet);
  while (received.state == local::Received::State::nothing && !answer.over()) {
    Signal& signal = answer.signal();
    co_await signal;
    received = local::receive(*socket, packet);
  }
  if (received.state == local::Received::State::nothing) {
    co_return fail(Errc::timed_out, "nobody answers at the door");
  }
  const auto said = wire::DoorFrame::decode(std::span(packet).first(received.size));
  const bool here = said && received.file && said->kind == Kind::here && said->node == node.node &&
                    said->incarnation == node.incarnation;
  if (!here) co_return fail(Errc::unavailable, "turned away at the door");
  HandedOut handed;
  handed.file = std::move(received.file);
  handed.writer = said->writer;
  co_return std::move(handed);
}

Task<Result<std::shared_ptr<const MappedArena>>> DoorOpener::open(wire::NodeEntry node,
                                                                  TimePoint deadline) {
  const NodeId id = node.node;
  const Incarnation life = node.incarnation;
  Task<Result<HandedOut>> asking = ask_at_door(loop_, std::move(node), false, deadline);
  const Result<HandedOut> handed = co_await asking;
  if (!handed) co_return fail(handed.error());
  co_return MappedArena::map(handed->file, id, life);
}

Task<Result<std::shared_ptr<const WritableArena>>> DoorOpener::open_writable(wire::NodeEntry node,
                                                                             TimePoint deadline) {
  const NodeId id = node.node;
  const Incarnation life = node.incarnation;
  Task<Result<HandedOut>> asking = ask_at_door(loop_, std::move(node), true, deadline);
  const Result<HandedOut> handed = co_await asking;
  if (!handed) co_return fail(handed.error());
  co_return WritableArena::map(handed->file, id, life, handed->writer);
}

}  // namespace membrain
