#include "protocol/calls.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

#include "transport/sim_network.h"

namespace membrain {
namespace {

/// Answers heartbeats with Alive{n}, n counting them; can be told to be silent or to refuse.
class Answerer final : public Receiver {
 public:
  explicit Answerer(Fabric& fabric) : fabric_(fabric) { fabric.set_receiver(*this); }
  void on_message(PeerId peer, std::span<const std::byte> bytes, Payload) override {
    const Result<wire::Frame> frame = wire::read_frame(bytes);
    ASSERT_TRUE(frame);
    ops.push_back(frame->header.op);
    if (silent) return;
    wire::Header header = frame->header;
    std::vector<std::byte> out;
    if (refuse) {
      wire::write_frame(out, header, wire::Refused{Errc::denied, "no"});
    } else {
      wire::write_frame(out, header, wire::Alive{static_cast<std::uint32_t>(ops.size())});
    }
    EXPECT_TRUE(fabric_.send(peer, out));
  }
  void on_lost(PeerId, const Error&) override {}

  std::vector<OpId> ops;
  bool silent = false;
  bool refuse = false;

 private:
  Fabric& fabric_;
};

/// A caller and an answerer with a connection between them.
class CallsTest : public ::testing::Test, public Receiver {
 public:
  CallsTest() {
    asking->set_receiver(*this);
    EXPECT_TRUE(answering->listen("answerer"));
    caller_loop.spawn(connect());
    settle([&] { return static_cast<bool>(peer); });
  }
  void on_message(PeerId from, std::span<const std::byte> bytes, Payload) override {
    const Result<wire::Frame> frame = wire::read_frame(bytes);
    ASSERT_TRUE(frame);
    if (!calls.on_frame(from, *frame)) ++strays;
  }
  void on_lost(PeerId lost, const Error&) override { calls.on_lost(lost); }

  Task<> connect() {
    Task<Result<PeerId>> connecting = asking->connect("answerer", in(std::chrono::seconds(5)));
    const Result<PeerId> connected = co_await connecting;
    if (connected) peer = *connected;
  }
  Task<> ask(Duration timeout) {
    const wire::Heartbeat request{SessionId{1}};
    const TimePoint deadline = in(timeout);
    Task<Result<wire::Alive>> call = calls.call<wire::Alive>(peer, request, deadline);
    answer = co_await call;
  }
  [[nodiscard]] TimePoint in(Duration time) const { return clock.now() + time; }
  /// Steps until `done`, at most so often that only a bug gets there.
  template <class Done>
  void settle(Done done) {
    for (int i = 0; i < 100000 && !done(); ++i) network.step();
    EXPECT_TRUE(done());
  }

  ManualClock clock;
  SimNetwork network{clock, 1};
  Loop caller_loop{clock};
  Loop answerer_loop{clock};
  std::unique_ptr<Fabric> asking = network.make_fabric(caller_loop, "caller");
  std::unique_ptr<Fabric> answering = network.make_fabric(answerer_loop, "answerer");
  Answerer answerer{*answering};
  Calls calls{*asking};
  PeerId peer;
  std::optional<Result<wire::Alive>> answer;
  int strays = 0;
};

TEST_F(CallsTest, BringTheAnswerToItsRequest) {
  caller_loop.spawn(ask(std::chrono::seconds(1)));
  settle([&] { return answer.has_value(); });
  ASSERT_TRUE(*answer);
  EXPECT_EQ((*answer)->map_version, 1u);
  EXPECT_EQ(calls.pending(), 0u);
}

TEST_F(CallsTest, SendAgainWithTheSameOpUntilTheDeadlineThenTimeOut) {
  answerer.silent = true;
  const TimePoint start = clock.now();
  caller_loop.spawn(ask(std::chrono::seconds(2)));
  settle([&] { return answer.has_value(); });
  EXPECT_EQ(answer->error().code, Errc::timed_out);
  EXPECT_GE(clock.now() - start, std::chrono::seconds(2));
  EXPECT_GE(answerer.ops.size(), 3u);
  for (const OpId op : answerer.ops) EXPECT_EQ(op, answerer.ops[0]);
}

TEST_F(CallsTest, HandOverARefusalAsItsError) {
  answerer.refuse = true;
  caller_loop.spawn(ask(std::chrono::seconds(1)));
  settle([&] { return answer.has_value(); });
  EXPECT_EQ(answer->error().code, Errc::denied);
}

TEST_F(CallsTest, EndWithPeerLostWhenTheConnectionGoes) {
  answerer.silent = true;
  caller_loop.spawn(ask(std::chrono::seconds(60)));
  network.kill("answerer");
  settle([&] { return answer.has_value(); });
  EXPECT_EQ(answer->error().code, Errc::peer_lost);
  EXPECT_EQ(calls.pending(), 0u);
}

TEST_F(CallsTest, CanAllBeCancelled) {
  answerer.silent = true;
  caller_loop.spawn(ask(std::chrono::seconds(60)));
  calls.cancel_all();
  settle([&] { return answer.has_value(); });
  EXPECT_EQ(answer->error().code, Errc::cancelled);
}

TEST_F(CallsTest, DropTheSecondAnswerOfARepeatedRequest) {
  SimFaults faults;
  faults.duplicate = 1;
  network.set_faults(faults);
  caller_loop.spawn(ask(std::chrono::seconds(1)));
  settle([&] { return answer.has_value(); });
  ASSERT_TRUE(*answer);
  settle([&] { return strays >= 1; });
  EXPECT_EQ(calls.pending(), 0u);
}

TEST_F(CallsTest, SurviveTheLossOfEveryThirdMessage) {
  SimFaults faults;
  faults.loss = 0.33;
  network.set_faults(faults);
  for (int i = 0; i < 50; ++i) {
    answer.reset();
    caller_loop.spawn(ask(std::chrono::seconds(60)));
    settle([&] { return answer.has_value(); });
    ASSERT_TRUE(*answer);
  }
}

}  // namespace
}  // namespace membrain
