// A connection's first message, and peers that do not say it.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include "tests/ucx/party.h"
#include "transport/ucx/contact.h"
#include "transport/ucx/handshake.h"
#include "transport/ucx/socket.h"
#include "transport/ucx/worker.h"

namespace membrain::ucx_test {
namespace {

/// Between two fabrics: it passes first contact on, but for the caller's last word, `ready`.
/// Instead of that it hangs up on both, as a network may.
class LastWordLoser {
 public:
  explicit LastWordLoser(const Address& to)
      : listener_(open_listener(resolve("127.0.0.1:0").value()).value()),
        answerer_(start_connect(resolve(to).value()).value()) {}
  [[nodiscard]] Address address() const { return with_port("127.0.0.1:0", port_of(listener_)); }
  [[nodiscard]] bool lost() const noexcept { return lost_; }
  void turn() {
    if (!caller_) caller_ = Descriptor(::accept4(listener_.fd(), nullptr, nullptr, SOCK_NONBLOCK));
    if (!caller_ || lost_ || take_error(answerer_) != 0) return;
    const std::size_t got = move(caller_, answerer_);
    if (!lost_ && got == 0) move(answerer_, caller_);
  }

 private:
  static constexpr std::uint16_t kReady = 6;
  std::size_t move(const Descriptor& from, const Descriptor& to) {
    std::array<std::byte, Handshake::kMaxFrameBytes> bytes;
    const ssize_t got = ::recv(from.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got <= 0) return 0;
    std::uint16_t kind = 0;
    std::memcpy(&kind, bytes.data() + sizeof Handshake::kMagic, sizeof kind);
    if (kind == kReady) {
      lost_ = true;
      caller_ = Descriptor();
      answerer_ = Descriptor();
      return 0;
    }
    const auto size = static_cast<std::size_t>(got);
    EXPECT_EQ(::send(to.fd(), bytes.data(), size, MSG_NOSIGNAL), got);
    return size;
  }

  Descriptor listener_;
  Descriptor answerer_;
  Descriptor caller_;
  bool lost_ = false;
};

/// Answers on first contact, and over UCX neither speaks nor listens.
class Mute final : private Contacts::Owner {
 public:
  explicit Mute(std::shared_ptr<UcxContext> context)
      : worker_(UcxWorker::create(std::move(context)).value()) {}
  [[nodiscard]] Address listen() { return contacts_.listen("127.0.0.1:0").value(); }
  void turn() {
    loop_.turn();
    contacts_.sweep();
  }

 private:
  bool on_heard(const Contact&) override { return true; }
  bool on_agreed(const Contact&) override { return true; }
  void on_ended(const Contact&, const Error&) override {}
  [[nodiscard]] Card card() {
    const std::span<const std::byte> address = worker_->address();
    return {++token_, kFabric, {address.begin(), address.end()}};
  }

  static constexpr std::uint64_t kFabric = 7;
  SteadyClock clock_;
  Loop loop_{clock_};
  std::unique_ptr<UcxWorker> worker_;
  std::uint64_t token_ = 0;
  Contacts contacts_{loop_, std::string(kSecret), [this] { return card(); }, *this};
};

/// UCX 1.13.1 loses a hundred bytes for each peer whose shared memory it finds gone. What is taken
/// while one of these lives is not looked for.
struct UcxsOwnLeaks {
#ifdef __SANITIZE_ADDRESS__
  __lsan::ScopedDisabler unseen;
#endif
};

class UcxHello : public testing::TestWithParam<Lane> {
 protected:
  struct Outcome {
    bool connected = false;
    bool given_up = false;  ///< and closed once the peer went on
  };
  /// The peer stops after so many turns, until the caller has an answer.
  Outcome stop_after(int turns) {
    Party a(context_);
    Party b(peer_context_);
    const Address address = b.fabric().listen("127.0.0.1:0").value();
    std::optional<Result<PeerId>> got;
    const TimePoint deadline = a.clock().now() + patience_;
    a.loop().turn();
    a.loop().spawn(connect_into(a.fabric(), address, deadline, got));
    for (int i = 0; i < turns && !got; ++i) {
      a.loop().turn();
      b.loop().turn();
    }
    EXPECT_TRUE(drive({&a}, [&] { return got.has_value(); }));
    Outcome outcome;
    outcome.connected = got && *got;
    if (outcome.connected) {
      EXPECT_TRUE(close(a, **got, {&b}));
    } else {
      EXPECT_EQ(got->error().code, Errc::timed_out);
      EXPECT_GE(a.clock().now(), deadline);
    }
    outcome.given_up = drive(
        {&a, &b}, [&] { return !b.lost.empty(); }, milliseconds(200));
    expect_service(a, b, address);
    EXPECT_TRUE(a.lost.empty());
    return outcome;
  }
  static void expect_service(Party& a, Party& b, const Address& address) {
    const Result<PeerId> peer = connect(a, address, {&b});
    ASSERT_TRUE(peer.has_value());
    ASSERT_TRUE(a.fabric().send(*peer, as_bytes("still there?")));
    ASSERT_TRUE(drive({&a, &b}, [&] { return b.messages.size() == 1; }));
    ASSERT_TRUE(b.fabric().send(b.messages.front().peer, as_bytes("yes")));
    ASSERT_TRUE(drive({&a, &b}, [&] { return a.messages.size() == 1; }));
    ASSERT_TRUE(close(a, *peer, {&b}));
  }

  static bool rdma() { return GetParam().kind == "rdma"; }
  const Duration patience_ = milliseconds(rdma() ? 1000 : 150);
  std::shared_ptr<UcxContext> context_ = make_context(GetParam(), GetParam().devices);
  std::shared_ptr<UcxContext> peer_context_ = make_context(GetParam(), GetParam().peer_devices);
};

TEST_P(UcxHello, IsAwaitedUntilTheDeadlineWhereverThePeerStops) {
  int connected = 0;
  int given_up = 0;
  const int every = rdma() ? 1 : 12;  // of the first turns
  for (int turns = 0; turns < 1 << 20 && connected == 0;
       turns = turns < every ? turns + 1 : turns * 4) {
    const Outcome outcome = stop_after(turns);
    connected += outcome.connected ? 1 : 0;
    given_up += !outcome.connected && outcome.given_up ? 1 : 0;
    ASSERT_FALSE(HasFailure()) << "after " << turns << " turns";
  }
  EXPECT_GT(connected, 0);
  EXPECT_GT(given_up, 0) << "no peer stopped between its contact and its hello";
}

TEST_P(UcxHello, IsNotAwaitedFromAPeerThatEnds) {
  for (int turns = 0; turns < 12; ++turns) {
    Party a(context_);
    auto b = std::make_unique<Party>(peer_context_);
    const Address address = b->fabric().listen("127.0.0.1:0").value();
    std::optional<Result<PeerId>> got;
    a.loop().turn();
    a.loop().spawn(connect_into(a.fabric(), address, a.clock().now() + seconds(20), got));
    for (int i = 0; i < turns; ++i) {
      a.loop().turn();
      b->loop().turn();
    }
    b.reset();
    [[maybe_unused]] const UcxsOwnLeaks leaks;
    EXPECT_TRUE(drive(
        {&a}, [&] { return got.has_value(); }, seconds(5)));
    if (got && *got) {
      EXPECT_TRUE(close(a, **got, {}));
    } else if (got) {
      EXPECT_TRUE(got->error().code == Errc::unavailable || got->error().code == Errc::peer_lost);
    }
    ASSERT_FALSE(HasFailure()) << "after " << turns << " turns";
  }
}

TEST_P(UcxHello, IsHeardAgainAfterFirstContactsLastWordWasLost) {
  // One side has made an endpoint, the other has not: UCX pairs all later ones of these two workers
  // one off, and those of the dead are among them.
  Party a(context_);
  Party b(peer_context_);
  const Address address = b.fabric().listen("127.0.0.1:0").value();
  LastWordLoser between(address);
  std::optional<Result<PeerId>> got;
  a.loop().turn();
  const TimePoint deadline = a.clock().now() + seconds(10);
  a.loop().spawn(connect_into(a.fabric(), between.address(), deadline, got));
  EXPECT_TRUE(drive({&a, &b}, [&] { return between.turn(), got.has_value(); }));
  EXPECT_TRUE(between.lost());
  EXPECT_FALSE(got && *got);
  int failed = 0;
  for (int made = 0; made < 4;) {
    const Result<PeerId> peer = connect(a, address, {&b});
    if (peer) {
      ++made;
      ASSERT_TRUE(close(a, *peer, {&b}));
    } else {
      ASSERT_LT(++failed, 4) << to_string(peer.error().code) << " " << peer.error().context;
    }
  }
  expect_service(a, b, address);
  RecordProperty("failed", failed);
}

TEST(UcxMute, IsNotCalledWhileAFewCallsWaitForItsHello) {
  const std::shared_ptr<UcxContext> context = make_context(shm_lane(), "");
  Mute mute(context);
  Party caller(context);
  const Address address = mute.listen();
  int given_up = 0;
  Errc why = Errc::timed_out;
  for (; why == Errc::timed_out && given_up < 20; ++given_up) {
    std::optional<Result<PeerId>> got;
    caller.loop().turn();
    const TimePoint deadline = caller.clock().now() + milliseconds(200);
    caller.loop().spawn(connect_into(caller.fabric(), address, deadline, got));
    ASSERT_TRUE(drive({&caller}, [&] { return mute.turn(), got.has_value(); }));
    ASSERT_FALSE(*got);
    why = got->error().code;
  }
  EXPECT_EQ(why, Errc::unavailable);
  EXPECT_GT(given_up, 4);
}

/// First contact's answer, up to its last word, which the test holds back.
class HeldAnswer {
 public:
  explicit HeldAnswer(const UcxWorker& worker)
      : handshake_(Handshake::Role::answerer, kSecret,
                   {1, 2, {worker.address().begin(), worker.address().end()}}) {}
  [[nodiscard]] Address address() const { return with_port("127.0.0.1:0", port_of(listener_)); }
  [[nodiscard]] Handshake::Stage stage() const noexcept { return handshake_.stage(); }
  void turn() {
    if (!caller_) caller_ = Descriptor(::accept4(listener_.fd(), nullptr, nullptr, SOCK_NONBLOCK));
    if (!caller_) return;
    std::array<std::byte, Handshake::kMaxFrameBytes> bytes;
    const ssize_t got = ::recv(caller_.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got <= 0) return;
    EXPECT_TRUE(handshake_.take(std::span(bytes).first(static_cast<std::size_t>(got)), held_));
    if (stage() != Handshake::Stage::heard) go_on();
  }
  void go_on() {
    const ssize_t sent = ::send(caller_.fd(), held_.data(), held_.size(), MSG_NOSIGNAL);
    EXPECT_EQ(sent, static_cast<ssize_t>(held_.size()));
    held_.clear();
  }

 private:
  Descriptor listener_ = open_listener(resolve("127.0.0.1:0").value()).value();
  Handshake handshake_;
  Descriptor caller_;
  std::vector<std::byte> held_;
};

TEST(UcxGivenUpCall, AgreesWithNobodyAfterItsDeadline) {
  const std::shared_ptr<UcxContext> context = make_context(tcp_lane(), "");
  const std::unique_ptr<UcxWorker> worker = UcxWorker::create(context).value();
  HeldAnswer answer(*worker);
  ManualClock clock;
  Loop loop(clock);
  auto fabric = make_ucx_fabric(context, loop, {std::string(kSecret), "test"}).value();
  const TimePoint deadline = clock.now() + seconds(5);
  std::optional<Result<PeerId>> given_up;
  std::optional<Result<PeerId>> later;
  // At the deadline the answer comes, and another call puts off when first contacts are ended.
  Timer first(loop, [&] {
    answer.go_on();
    loop.spawn(connect_into(*fabric, answer.address(), deadline + seconds(5), later));
  });
  first.arm(deadline);
  loop.spawn(connect_into(*fabric, answer.address(), deadline, given_up));
  for (int i = 0; i < 10'000 && answer.stage() != Handshake::Stage::heard; ++i) {
    loop.turn();
    answer.turn();
  }
  ASSERT_EQ(answer.stage(), Handshake::Stage::heard);
  clock.set(deadline);
  for (int i = 0; i < 100; ++i) {
    loop.turn();
    answer.turn();
  }
  ASSERT_TRUE(given_up.has_value());
  EXPECT_EQ(given_up->error().code, Errc::timed_out);
  EXPECT_EQ(answer.stage(), Handshake::Stage::heard);
  clock.set(deadline + seconds(5));
  for (int i = 0; i < 100 && !later; ++i) loop.turn();
  ASSERT_TRUE(later.has_value());
  EXPECT_EQ(later->error().code, Errc::timed_out);
}

INSTANTIATE_TEST_SUITE_P(Lanes, UcxHello, testing::ValuesIn(every_lane()),
                         [](const auto& lane) { return lane.param.name; });

}  // namespace
}  // namespace membrain::ucx_test
