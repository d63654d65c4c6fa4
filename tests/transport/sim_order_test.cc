// The same seed gives the same history; no seed breaks the rules about memory.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/transport/sim_party.h"
#include "transport/sim_fabric.h"

namespace membrain::sim_test {
namespace {

SimFaults rough() {
  SimFaults faults;
  faults.loss = 0.02;
  faults.duplicate = 0.05;
  faults.reorder = 0.1;
  faults.reset = 0.002;
  faults.bytes_per_second = 100'000'000;
  return faults;
}

/// A process that answers every frame with a payload, reconnects when it is cut off, and after
/// every operation checks that its memory is left alone.
class Gossip final : public Receiver {
 public:
  Gossip(SimNetwork& network, ManualClock& clock, std::string name, std::string other,
         std::string& history)
      : clock_(clock),
        loop_(clock),
        fabric_(network.make_fabric(loop_, name)),
        name_(std::move(name)),
        other_(std::move(other)),
        history_(history) {
    fabric_->set_receiver(*this);
    EXPECT_TRUE(fabric_->listen(name_));
  }
  ~Gossip() { EXPECT_EQ(loop_.running_tasks(), 0u); }

  void start(int rounds) { loop_.spawn(talk(rounds)); }
  [[nodiscard]] bool idle() const { return loop_.running_tasks() == 0; }
  [[nodiscard]] std::uint64_t received() const { return received_; }

  void on_message(PeerId, std::span<const std::byte> frame, Payload payload) override {
    note("got", frame.size());
    if (payload.size() != 0) loop_.spawn(take(std::move(payload)));
  }
  void on_lost(PeerId peer, const Error&) override {
    note("lost", peer.value);
    if (peer == peer_) peer_ = {};
  }

 private:
  void note(std::string_view what, std::uint64_t number) {
    history_ += name_;
    history_ += what;
    history_ += std::to_string(number);
    history_ += '@';
    history_ += std::to_string(clock_.now().time_since_epoch().count());
    history_ += '\n';
  }

  Task<> talk(int rounds) {
    for (int i = 0; i < rounds; ++i) {
      if (!peer_) {
        Task<Result<PeerId>> connecting = fabric_->connect(other_, clock_.now() + seconds(1));
        const Result<PeerId> peer = co_await connecting;
        if (!peer) {
          note("alone", static_cast<std::uint64_t>(peer.error().code));
          continue;
        }
        peer_ = *peer;
      }
      const auto size = static_cast<std::size_t>(1 + (i * 7919) % 20'000);
      std::vector<std::byte> memory = pattern(size, static_cast<unsigned>(i));
      const std::vector<Segment> pieces = cut(memory, {size / 3});
      Completion sent(loop_.ready());
      fabric_->send(peer_, bytes_of("frame"), pieces, sent);
      const Result<> outcome = co_await sent;
      note(outcome ? "sent" : "failed", size);
    }
    if (peer_) {
      Task<> closing = fabric_->close(peer_);
      co_await closing;
    }
  }

  Task<> take(Payload payload) {
    std::vector<std::byte> sink(payload.size());
    const std::vector<Segment> pieces = cut(sink, {payload.size() / 2});
    Completion received(loop_.ready());
    fabric_->receive(std::move(payload), pieces, received);
    const Result<> outcome = co_await received;
    if (outcome) ++received_;
    const std::vector<std::byte> quiet = sink;
    co_await loop_.sleep_until(loop_.now() + milliseconds(100));
    EXPECT_EQ(sink, quiet) << "bytes landed after the end";
    note(outcome ? "took" : "dropped", sink.size());
  }

  ManualClock& clock_;
  Loop loop_;
  std::unique_ptr<Fabric> fabric_;
  std::string name_;
  std::string other_;
  std::string& history_;
  PeerId peer_;
  std::uint64_t received_ = 0;
};

/// What a pair of gossips lived through under this seed.
std::string history_of(std::uint64_t seed) {
  std::string history;
  ManualClock clock;
  SimNetwork network(clock, seed, rough());
  {
    Gossip a(network, clock, "a", "b", history);
    Gossip b(network, clock, "b", "a", history);
    a.start(60);
    b.start(60);
    int steps = 0;
    for (; steps < 1'000'000 && network.step(); ++steps) {
      if (steps == 500) network.partition_one_way("a", "b", true);
      if (steps == 900) network.heal_partitions();
      if (steps == 1000 && seed % 3 == 0) network.kill("b");
    }
    EXPECT_LT(steps, 1'000'000);
    EXPECT_TRUE(a.idle());
    EXPECT_TRUE(b.idle());
    EXPECT_GT(a.received() + b.received(), 0u);
  }
  return history;
}

TEST(SimOrder, TheSameSeedGivesTheSameHistory) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) EXPECT_EQ(history_of(seed), history_of(seed));
}

TEST(SimOrder, AnotherSeedGivesAnotherHistory) {
  EXPECT_NE(history_of(1), history_of(2));
}

TEST(SimOrder, UnderTwoHundredSeedsEveryOperationEndsAndNoByteLandsLate) {
  for (std::uint64_t seed = 100; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    history_of(seed);
  }
}

}  // namespace
}  // namespace membrain::sim_test
