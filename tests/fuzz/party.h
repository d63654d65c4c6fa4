// Somebody in a simulated cluster who says whatever the input says.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/codec.h"
#include "protocol/frame.h"
#include "tests/fuzz/target.h"
#include "tests/transport/await.h"
#include "transport/sim_network.h"

namespace membrain::fuzz {

/// Eight bytes that stand in an input for what a run draws anew: a session, a namespace.
using Mark = std::array<char, 8>;
inline constexpr Mark kSessionMark{'S', 'E', 'S', 'S', 'I', 'O', 'N', '!'};
inline constexpr Mark kSpaceMark{'N', 'A', 'M', 'E', 'S', 'P', 'A', 'C'};

inline std::uint64_t value_of(const Mark& mark) noexcept {
  return std::bit_cast<std::uint64_t>(mark);
}

/// Puts `value` wherever the mark stands.
inline void replace(std::vector<std::byte>& body, const Mark& mark, std::uint64_t value) {
  const auto sought = std::as_bytes(std::span(mark));
  for (auto at = body.begin();;) {
    at = std::search(at, body.end(), sought.begin(), sought.end());
    if (at == body.end()) return;
    std::memcpy(&*at, &value, sizeof value);
  }
}

/// Bytes that the input gives, a u16 count first: at most what is left of it.
inline std::vector<std::byte> take_bytes(Reader& in) {
  std::uint16_t count = 0;
  in.get(count);
  std::vector<std::byte> bytes(std::min<std::size_t>(count, in.left()));
  in.raw(bytes.data(), bytes.size());
  return bytes;
}

/// Turns the network until that much time has passed, or nothing is left to happen.
inline void run_for(SimNetwork& network, const ManualClock& clock, Duration time) {
  constexpr int kMostSteps = 20000;
  const TimePoint end = clock.now() + time;
  for (int i = 0; i < kMostSteps && clock.now() < end && network.step(); ++i) {
  }
}

inline void run_until(SimNetwork& network, const std::function<bool()>& done) {
  constexpr int kMostSteps = 20000;
  for (int i = 0; i < kMostSteps && !done(); ++i) network.step();
}

/// Has a service that is on that loop stop, to its end.
template <class Service>
void stop(SimNetwork& network, Loop& loop, Service& service) {
  bool stopped = false;
  loop.spawn(note_end(service.stop(), stopped));
  run_until(network, [&] { return stopped; });
  check(stopped, "a service does not stop");
}

/// A world of its own takes the input, step by step.
template <class World>
void play(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kMostSteps = 48;
  World world;
  Reader in(bytes_of(data, size));
  for (std::size_t step = 0; step < kMostSteps && in.left() > 0; ++step) world.take(in);
}

/// One process of it, on a loop of its own.
class Party final : public Receiver {
 public:
  Party(SimNetwork& network, const ManualClock& clock, std::string_view name)
      : loop_(clock), fabric_(network.make_fabric(loop_, name)) {
    fabric_->set_receiver(*this);
  }
  ~Party() {
    fabric_.reset();
    for (int i = 0; i < 1000 && loop_.running_tasks() != 0; ++i) loop_.turn();
  }
  Party(const Party&) = delete;
  Party& operator=(const Party&) = delete;

  void connect(Address to) { loop_.spawn(connecting(std::move(to))); }
  [[nodiscard]] Fabric& fabric() noexcept { return *fabric_; }

  /// A frame of that type around whatever `body` is.
  void say(wire::Type type, OpId op, std::span<const std::byte> body,
           std::vector<std::byte> payload = {}) {
    wire::Header header;
    header.type = type;
    header.op = op;
    header.epoch = epoch;
    frame_.clear();
    wire::detail::begin_frame(frame_, header);
    frame_.insert(frame_.end(), body.begin(), body.end());
    wire::detail::end_frame(frame_);
    if (payload.empty()) return static_cast<void>(fabric_->send(peer, frame_));
    Sending& sending = sendings_.emplace_back(loop_, std::move(payload));
    const Segment segment{sending.bytes.data(), sending.bytes.size()};
    fabric_->send(peer, frame_, {&segment, 1}, sending.done);
  }
  template <class Message>
  void say(const Message& message, OpId op = {}) {
    std::vector<std::byte> body;
    Writer out(body);
    message.encode(out);
    say(Message::kType, op, body);
  }

  void on_message(PeerId from, std::span<const std::byte> bytes, Payload payload) override {
    const Result<wire::Frame> frame = wire::read_frame(bytes);
    check(frame.has_value(), "what was said is no frame");
    if (!peer) peer = from;
    if (on_frame) on_frame(*frame);
    if (payload.size() > 0) loop_.spawn(receive(std::move(payload)));
  }
  void on_lost(PeerId, const Error&) override { peer = {}; }

  PeerId peer;
  Epoch epoch;
  std::function<void(const wire::Frame&)> on_frame;

 private:
  struct Sending {
    Sending(Loop& loop, std::vector<std::byte> payload)
        : bytes(std::move(payload)), done(loop.ready()) {}
    std::vector<std::byte> bytes;
    Completion done;
  };
  Task<> connecting(Address to) {
    Task<Result<PeerId>> connected =
        fabric_->connect(std::move(to), loop_.now() + std::chrono::seconds(1));
    const Result<PeerId> got = co_await connected;
    if (got) peer = *got;
  }
  Task<> receive(Payload payload) {
    std::vector<std::byte> bytes(payload.size());
    const Segment segment{bytes.data(), bytes.size()};
    Completion landed(loop_.ready());
    fabric_->receive(std::move(payload), {&segment, 1}, landed);
    static_cast<void>(co_await landed);
  }

  Loop loop_;
  std::unique_ptr<Fabric> fabric_;
  std::list<Sending> sendings_;
  std::vector<std::byte> frame_;
};

}  // namespace membrain::fuzz
