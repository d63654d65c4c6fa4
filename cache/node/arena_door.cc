#include "cache/node/arena_door.h"

#include <array>
#include <utility>

#include "base/log.h"
#include "base/mac.h"
#include "protocol/door.h"
#include "transport/fd_passing.h"

namespace membrain {

/// Somebody who has knocked and not asked yet.
class ArenaDoor::Caller final : public FdHandler {
 public:
  Caller(ArenaDoor& door, std::uint64_t number, Descriptor connected)
      : socket(std::move(connected)),
        until(door.loop_.now() + kPatience),
        door_(door),
        number_(number) {}
  ~Caller() { door_.loop_.unwatch(socket.fd()); }
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;

  void on_ready(std::uint32_t) override {
    if (door_.answer(socket)) door_.drop(number_);  // `this` is gone
  }

  Descriptor socket;
  TimePoint until;

 private:
  ArenaDoor& door_;
  std::uint64_t number_;
};

ArenaDoor::ArenaDoor(Loop& loop, const Arena& arena)
    : loop_(loop), arena_(arena), alarm_(loop, [this] { expire(); }) {}

ArenaDoor::~ArenaDoor() {
  close();
}

Result<> ArenaDoor::open() {
  if (const Result<Descriptor> shared = arena_.share(); !shared) return fail(shared.error());
  std::string name = fmt::format("membrain-{:08x}-{:016x}{:016x}", arena_.node().value,
                                 random_u64(), random_u64());
  Result<Descriptor> listener = local::listen(name);
  if (!listener) return fail(listener.error());
  const Result<> watched = loop_.watch(listener->fd(), EPOLLIN, *this);
  if (!watched) return watched;
  listener_ = std::move(*listener);
  name_ = std::move(name);
  return {};
}

void ArenaDoor::close() noexcept {
  alarm_.cancel();
  callers_.clear();
  if (listener_) loop_.unwatch(listener_.fd());
  listener_ = Descriptor();
  name_.clear();
}

void ArenaDoor::on_ready(std::uint32_t) {
  for (std::size_t i = 0; i < kMaxCallers; ++i) {
    Descriptor socket = local::accept(listener_);
    if (!socket) break;
    if (local::of_this_user(socket)) admit(std::move(socket));
  }
  set_alarm();
}

void ArenaDoor::admit(Descriptor socket) {
  if (callers_.size() == kMaxCallers) callers_.erase(callers_.begin());
  const std::uint64_t number = next_++;
  auto caller = std::make_unique<Caller>(*this, number, std::move(socket));
  if (!loop_.watch(caller->socket.fd(), EPOLLIN, *caller)) return;
  callers_.emplace(number, std::move(caller));
}

/// True when nothing more is to be said to this caller.
bool ArenaDoor::answer(const Descriptor& socket) const {
  std::array<std::byte, wire::DoorFrame::kBytes> packet;
  const local::Received received = local::receive(socket, packet);
  if (received.state == local::Received::State::nothing) return false;
  if (received.state == local::Received::State::ended) return true;
  const auto asked = wire::DoorFrame::decode(std::span(packet).first(received.size));
  if (!asked) return true;
  using Kind = wire::DoorFrame::Kind;
  const bool meant = asked->node == arena_.node() && asked->incarnation == arena_.incarnation() &&
                     (asked->kind == Kind::read || asked->kind == Kind::write);
  wire::DoorFrame reply{Kind::refused, arena_.node(), arena_.incarnation()};
  Descriptor file;
  if (meant) {
    file = asked->kind == Kind::write ? lend(reply.writer) : arena_.share().value_or(Descriptor());
    if (file) reply.kind = Kind::here;
  }
  if (!local::send(socket, reply.encode(), file)) {
    log(LogLevel::debug, "node: a caller at the door went away");
  }
  return true;
}

/// The file for a new writer; nothing if it cannot be had.
Descriptor ArenaDoor::lend(WriterId& writer) const {
  Result<Arena::Writable> shared = arena_.share_writable();
  if (!shared) return {};
  writer = shared->writer;
  return std::move(shared->file);
}

void ArenaDoor::drop(std::uint64_t caller) noexcept {
  callers_.erase(caller);
  set_alarm();
}

void ArenaDoor::expire() {
  while (!callers_.empty() && callers_.begin()->second->until <= loop_.now()) {
    callers_.erase(callers_.begin());
  }
  set_alarm();
}

void ArenaDoor::set_alarm() {
  if (callers_.empty()) return alarm_.cancel();
  alarm_.arm(callers_.begin()->second->until);
}

}  // namespace membrain
