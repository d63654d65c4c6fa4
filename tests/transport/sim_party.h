// A process of a simulated network, for tests: a loop, a fabric, and all that it has been told.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "transport/fabric.h"
#include "transport/sim_fabric.h"
#include "transport/task.h"

namespace membrain::sim_test {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// Bytes that depend on `seed` and on their place.
inline std::vector<std::byte> pattern(std::size_t size, unsigned seed) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<std::byte>((i * 31 + seed * 131 + (i >> 8)) & 0xff);
  }
  return bytes;
}

/// Memory cut into pieces of these sizes; the rest is the last piece.
inline std::vector<Segment> cut(std::vector<std::byte>& memory, std::vector<std::size_t> sizes) {
  std::vector<Segment> segments;
  std::size_t at = 0;
  for (const std::size_t size : sizes) {
    segments.push_back({memory.data() + at, size});
    at += size;
  }
  segments.push_back({memory.data() + at, memory.size() - at});
  return segments;
}

class Party final : public Receiver {
 public:
  Party(SimNetwork& network, ManualClock& clock, std::string_view process)
      : loop_(clock), fabric_(network.make_fabric(loop_, process)) {
    fabric_->set_receiver(*this);
  }
  void on_message(PeerId peer, std::span<const std::byte> frame, Payload payload) override {
    last_peer = peer;
    frames.emplace_back(reinterpret_cast<const char*>(frame.data()), frame.size());
    if (payload.size() != 0 && keep_payloads) payloads.push_back(std::move(payload));
  }
  void on_lost(PeerId peer, const Error& why) override {
    EXPECT_EQ(why.code, Errc::peer_lost);
    lost.push_back(peer);
  }
  Fabric& fabric() { return *fabric_; }
  Loop& loop() { return loop_; }
  void destroy_fabric() { fabric_.reset(); }

  PeerId last_peer;
  std::vector<std::string> frames;
  std::vector<PeerId> lost;
  std::vector<Payload> payloads;
  bool keep_payloads = true;

  ~Party() { payloads.clear(); }

 private:
  Loop loop_;
  std::unique_ptr<Fabric> fabric_;
};

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

/// Two processes, "a" and "b"; b listens as "b".
class SimTest : public testing::Test {
 protected:
  explicit SimTest(SimFaults faults = {}, std::uint64_t seed = 1)
      : network_(clock_, seed, faults) {}

  void SetUp() override { ASSERT_TRUE(b_.fabric().listen("b")); }

  /// Goes on until nothing happens any more (bounded).
  void settle() {
    for (int i = 0; i < 1'000'000; ++i) {
      if (!network_.step()) return;
    }
    FAIL() << "the network does not come to rest";
  }
  void run_for(Duration time) {
    const TimePoint until = clock_.now() + time;
    while (clock_.now() < until) {
      if (network_.turn_loops()) continue;
      TimePoint next = until;
      if (const auto event = network_.next_event()) next = std::min(next, *event);
      if (const auto timer = network_.next_timer()) next = std::min(next, *timer);
      clock_.set(std::max(next, clock_.now()));
      network_.deliver_due();
    }
    while (network_.turn_loops()) {
    }
  }
  Result<PeerId> connect(Party& from, const Address& to, Duration patience = seconds(1)) {
    std::optional<Result<PeerId>> got;
    from.loop().spawn(connect_into(from.fabric(), to, clock_.now() + patience, got));
    for (int i = 0; i < 10'000 && !got; ++i) network_.step();
    EXPECT_TRUE(got.has_value());
    return *got;
  }
  /// Connects a to b and lets b know a.
  void meet() {
    to_b_ = connect(a_, "b").value();
    ASSERT_TRUE(a_.fabric().send(to_b_, bytes_of("hello")));
    settle();
    ASSERT_EQ(b_.frames.size(), 1u);
    to_a_ = b_.last_peer;
    b_.frames.clear();
  }

  ManualClock clock_;
  SimNetwork network_;
  Party a_{network_, clock_, "a"};
  Party b_{network_, clock_, "b"};
  PeerId to_b_;
  PeerId to_a_;
};

}  // namespace membrain::sim_test
