// A process's end of a real UCX fabric, for tests: a loop, a fabric, and all that it has been told.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mac.h"
#include "tests/ucx/lane.h"
#include "transport/fabric.h"
#include "transport/loop.h"
#include "transport/ucx/ucx_context.h"
#include "transport/ucx/ucx_fabric.h"

namespace membrain::ucx_test {

using std::chrono::milliseconds;
using std::chrono::seconds;

inline constexpr std::string_view kSecret = "a secret of the tests";
/// Bytes that depend on `seed` and on their place.
inline std::vector<std::byte> pattern(std::size_t size, std::size_t seed) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<std::byte>((i * 31 + seed * 131 + (i >> 8)) & 0xff);
  }
  return bytes;
}

inline Segment all_of(std::vector<std::byte>& memory, const Region* region = nullptr) {
  return {memory.data(), memory.size(), region};
}

struct Message {
  PeerId peer;
  std::string frame;
  Payload payload;
};

class Party final : public Receiver {
 public:
  explicit Party(std::shared_ptr<UcxContext> context, std::string_view secret = kSecret)
      : loop_(clock_),
        fabric_(make_ucx_fabric(std::move(context), loop_, {std::string(secret), "test"}).value()) {
    fabric_->set_receiver(*this);
  }
  ~Party() { messages.clear(); }

  void on_message(PeerId peer, std::span<const std::byte> frame, Payload payload) override {
    messages.push_back(
        {peer, {reinterpret_cast<const char*>(frame.data()), frame.size()}, std::move(payload)});
  }
  void on_lost(PeerId peer, const Error& why) override {
    EXPECT_EQ(why.code, Errc::peer_lost);
    lost.push_back(peer);
  }
  Fabric& fabric() { return *fabric_; }
  Loop& loop() { return loop_; }
  const Clock& clock() const { return clock_; }
  void destroy_fabric() {
    messages.clear();
    fabric_.reset();
  }

  std::vector<Message> messages;
  std::vector<PeerId> lost;

 private:
  SteadyClock clock_;
  Loop loop_;
  std::unique_ptr<Fabric> fabric_;
};

/// Turns the loops until `done()`; false if that does not come about within a bound.
template <class Done>
bool drive(std::vector<Party*> parties, Done done, Duration longest = seconds(20)) {
  const TimePoint until = parties.front()->clock().now() + longest;
  while (!done()) {
    bool worked = false;
    for (Party* party : parties) worked |= party->loop().turn();
    if (worked) continue;
    if (parties.front()->clock().now() > until) return false;
    for (Party* party : parties) party->loop().wait(milliseconds(1));
  }
  return true;
}

inline Task<> connect_into(Fabric& fabric, Address address, TimePoint deadline,
                           std::optional<Result<PeerId>>& into) {
  Task<Result<PeerId>> connecting = fabric.connect(std::move(address), deadline);
  into = co_await connecting;
}

inline Task<> close_into(Fabric& fabric, PeerId peer, bool& closed) {
  Task<> closing = fabric.close(peer);
  co_await closing;
  closed = true;
}

/// Connects, while every party turns.
inline Result<PeerId> connect(Party& from, const Address& to, std::vector<Party*> others,
                              Duration patience = seconds(10)) {
  std::optional<Result<PeerId>> got;
  from.loop().turn();
  from.loop().spawn(connect_into(from.fabric(), to, from.clock().now() + patience, got));
  others.push_back(&from);
  EXPECT_TRUE(drive(others, [&] { return got.has_value(); }));
  return got.value_or(Result<PeerId>(fail(Errc::timed_out, "the test's patience")));
}

inline bool close(Party& party, PeerId peer, std::vector<Party*> others) {
  bool closed = false;
  party.loop().spawn(close_into(party.fabric(), peer, closed));
  others.push_back(&party);
  return drive(others, [&] { return closed; });
}

/// Two parties in this process, a connected to b, over the lane that the test names.
class Pair {
 public:
  explicit Pair(const Lane& lane)
      : context_(make_context(lane, lane.devices)),
        peer_context_(lane.devices == lane.peer_devices ? context_
                                                        : make_context(lane, lane.peer_devices)),
        a(context_),
        b(peer_context_) {
    address = b.fabric().listen("127.0.0.1:0").value();
    to_b = connect(a, address, {&b}).value();
    EXPECT_TRUE(a.fabric().send(to_b, as_bytes("hello")).has_value());
    EXPECT_TRUE(turn_until([&] { return b.messages.size() == 1; }));
    to_a = b.messages.front().peer;
    b.messages.clear();
  }
  template <class Done>
  bool turn_until(Done done, Duration longest = seconds(20)) {
    return drive({&a, &b}, done, longest);
  }

 private:
  std::shared_ptr<UcxContext> context_;
  std::shared_ptr<UcxContext> peer_context_;

 public:
  Party a;
  Party b;
  Address address;
  PeerId to_a;
  PeerId to_b;
};

}  // namespace membrain::ucx_test
