// The public port: who may come in, and what becomes of all others.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <vector>

#include "tests/ucx/party.h"
#include "transport/ucx/contact.h"
#include "transport/ucx/socket.h"

namespace membrain::ucx_test {
namespace {

/// A stranger's plain TCP connection.
class Stranger {
 public:
  explicit Stranger(const Address& address) {
    const SocketAddress to = resolve(address).value();
    fd_ = ::socket(to.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::connect(fd_, to.get(), to.size), 0);
  }
  ~Stranger() { ::close(fd_); }
  Stranger(const Stranger&) = delete;
  Stranger& operator=(const Stranger&) = delete;
  void say(const std::vector<std::byte>& bytes) {
    EXPECT_GE(::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL), 0);
  }
  /// True once the other end has hung up.
  bool hung_up() {
    char byte = 0;
    const ssize_t got = ::recv(fd_, &byte, 1, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN);
  }

 private:
  int fd_ = -1;
};

class UcxContact : public testing::Test {
 protected:
  void listen() { address_ = b_.fabric().listen("127.0.0.1:0").value(); }
  /// An honest client comes in, and both are understood.
  void expect_service() {
    Party honest(context_);
    const Result<PeerId> peer = connect(honest, address_, {&b_});
    ASSERT_TRUE(peer.has_value());
    const std::size_t before = b_.messages.size();
    ASSERT_TRUE(honest.fabric().send(*peer, as_bytes("still there?")));
    ASSERT_TRUE(drive({&honest, &b_}, [&] { return b_.messages.size() == before + 1; }));
    ASSERT_TRUE(close(honest, *peer, {&b_}));
  }

  std::shared_ptr<UcxContext> context_ = make_context(tcp_lane(), "");
  Party a_{context_};
  Party b_{context_};
  Address address_;
};

TEST_F(UcxContact, IsDeniedWithAnotherSecret) {
  listen();
  Party wrong(context_, "not the secret");
  EXPECT_EQ(connect(wrong, address_, {&b_}).error().code, Errc::denied);
  expect_service();
}

TEST_F(UcxContact, FindsNobodyOnAClosedPort) {
  listen();
  b_.destroy_fabric();
  const Result<PeerId> peer = connect(a_, address_, {});
  EXPECT_EQ(peer.error().code, Errc::unavailable);
  EXPECT_EQ(peer.error().native, ECONNREFUSED);
}

TEST_F(UcxContact, TimesOutWhereNobodyAnswers) {
  const SocketAddress any = resolve("127.0.0.1:0").value();
  const Descriptor silent = open_listener(any).value();
  const Address address = with_port("127.0.0.1:0", port_of(silent));
  const Result<PeerId> peer = connect(a_, address, {}, milliseconds(50));
  EXPECT_EQ(peer.error().code, Errc::timed_out);
}

TEST_F(UcxContact, NamesBrokenAddresses) {
  for (const char* address :
       {"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:99999", "::1:9201", ":9201"}) {
    EXPECT_EQ(connect(a_, address, {}).error().code, Errc::invalid_argument) << address;
    EXPECT_EQ(a_.fabric().listen(address).error().code, Errc::invalid_argument) << address;
  }
}

TEST_F(UcxContact, TurnsCallersAwayBeforeDescriptorsRunOut) {
  listen();
  rlimit many{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &many), 0);
  const Descriptor next(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  rlimit few = many;
  few.rlim_cur = static_cast<rlim_t>(next.fd() + Contacts::kSpareDescriptors / 2);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  const Result<PeerId> peer = connect(a_, address_, {&b_});
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &many), 0);
  EXPECT_EQ(peer.error().code, Errc::unavailable);
  expect_service();
}

TEST_F(UcxContact, SaysThatAPortIsInUse) {
  listen();
  const Result<Address> second = a_.fabric().listen(address_);
  EXPECT_EQ(second.error().code, Errc::unavailable);
  EXPECT_EQ(second.error().native, EADDRINUSE);
  EXPECT_EQ(second.error().context, "the port is in use");
}

TEST_F(UcxContact, WorksOverIpv6AndByTheNameLocalhost) {
  const Result<Address> v6 = b_.fabric().listen("[::1]:0");
  if (!v6) GTEST_SKIP() << "no IPv6 loopback interface";
  address_ = *v6;
  expect_service();
  Party c(context_);
  const Address named = c.fabric().listen("localhost:0").value();
  EXPECT_EQ(named.substr(0, 10), "localhost:");
  EXPECT_TRUE(connect(a_, named, {&c}).has_value());
}

TEST_F(UcxContact, HangsUpOnJunk) {
  listen();
  const std::vector<std::vector<std::byte>> junk = {
      std::vector<std::byte>(100, std::byte{0}),
      std::vector<std::byte>(100, std::byte{0xff}),
      std::vector<std::byte>(100'000, std::byte{'M'}),
      {std::byte{'M'}, std::byte{'B'}, std::byte{'C'}, std::byte{'1'}, std::byte{1}, std::byte{0},
       std::byte{0}, std::byte{0}, std::byte{0xff}, std::byte{0xff}, std::byte{0xff},
       std::byte{0x7f}}};
  for (const std::vector<std::byte>& bytes : junk) {
    Stranger stranger(address_);
    stranger.say(bytes);
    EXPECT_TRUE(drive({&b_}, [&] { return stranger.hung_up(); }));
  }
  expect_service();
  EXPECT_TRUE(b_.lost.empty() || b_.lost.size() == 1);  // the honest one, when it closed
}

TEST_F(UcxContact, HangsUpOnWhoeverSaysNothing) {
  listen();
  Stranger silent(address_);
  Stranger halfway(address_);
  halfway.say({std::byte{'M'}, std::byte{'B'}, std::byte{'C'}});
  const TimePoint start = b_.clock().now();
  EXPECT_TRUE(drive({&b_}, [&] { return silent.hung_up() && halfway.hung_up(); }));
  EXPECT_LT(b_.clock().now() - start, 2 * Contacts::kPatience);
}

TEST_F(UcxContact, ServesTheHonestThroughAFloodOfHalfOpenContacts) {
  listen();
  std::vector<std::unique_ptr<Stranger>> flood;
  for (std::size_t i = 0; i < Contacts::kMaxHalfOpen + 20; ++i) {
    flood.push_back(std::make_unique<Stranger>(address_));
    b_.loop().turn();
  }
  EXPECT_TRUE(drive({&b_}, [&] { return flood.front()->hung_up(); }));  // the oldest gave way
  EXPECT_FALSE(flood.back()->hung_up());
  expect_service();
}

TEST_F(UcxContact, IsLostAsSoonAsTheOtherFabricIsGone) {
  listen();
  const PeerId peer = connect(a_, address_, {&b_}).value();
  b_.destroy_fabric();
  EXPECT_TRUE(drive(
      {&a_}, [&] { return a_.lost == std::vector{peer}; }, seconds(2)));
  EXPECT_EQ(a_.fabric().send(peer, as_bytes("x")).error().code, Errc::peer_lost);
}

TEST_F(UcxContact, IsMadeAgainAfterALoss) {
  listen();
  for (int i = 0; i < 3; ++i) {
    expect_service();
    const PeerId peer = connect(a_, address_, {&b_}).value();
    ASSERT_TRUE(close(a_, peer, {&b_}));
  }
}

/// Contacts alone, on a clock that the test moves.
class SlowContacts : public testing::Test, protected Contacts::Owner {
 protected:
  bool on_heard(const Contact&) override { return heard_ = true; }
  bool on_agreed(const Contact&) override {
    ++agreed_;
    return true;
  }
  void on_ended(const Contact&, const Error& why) override { ended_.push_back(why.code); }
  static Card card() { return {1, 2, pattern(10, 1)}; }
  template <class Done>
  bool turn_until(Done done) {
    for (int i = 0; i < 10'000; ++i) {
      answerer_loop_.turn();
      if (done()) return true;
      caller_loop_.turn();
    }
    return false;
  }

  using Strangers = std::vector<std::unique_ptr<Stranger>>;
  /// More of them than may be half open, while their host's loop turns.
  static Strangers flood(const Address& address, Loop& loop) {
    Strangers strangers;
    for (std::size_t i = 0; i < Contacts::kMaxHalfOpen + 44; ++i) {
      strangers.push_back(std::make_unique<Stranger>(address));
      loop.turn();
    }
    return strangers;
  }
  /// Where calls are taken, and never answered.
  [[nodiscard]] Address nobody() const { return with_port("127.0.0.1:0", port_of(silent_)); }

  const Descriptor silent_ = open_listener(resolve("127.0.0.1:0").value()).value();
  ManualClock clock_;
  Loop answerer_loop_{clock_};
  Loop caller_loop_{clock_};
  Contacts answerer_{answerer_loop_, std::string(kSecret), card, *this};
  Contacts caller_{caller_loop_, std::string(kSecret), card, *this};
  bool heard_ = false;
  int agreed_ = 0;
  std::vector<Errc> ended_;
};

TEST_F(SlowContacts, HaveTimeToOpenTheirEndpointOnceTheyAreProven) {
  const Address address = answerer_.listen("127.0.0.1:0").value();
  ASSERT_TRUE(caller_.call(resolve(address).value(), TimePoint::max()).has_value());
  ASSERT_TRUE(turn_until([&] { return heard_; }));
  clock_.advance(Contacts::kProvenPatience - milliseconds(1));
  EXPECT_TRUE(turn_until([&] { return agreed_ == 2; }));
  EXPECT_TRUE(ended_.empty());
}

TEST_F(SlowContacts, AreGivenUpWhenTheyNeverOpenIt) {
  const Address address = answerer_.listen("127.0.0.1:0").value();
  ASSERT_TRUE(caller_.call(resolve(address).value(), TimePoint::max()).has_value());
  ASSERT_TRUE(turn_until([&] { return heard_; }));
  clock_.advance(Contacts::kProvenPatience);
  answerer_loop_.turn();
  EXPECT_EQ(ended_, std::vector{Errc::timed_out});
}

TEST_F(SlowContacts, EndByTheirOwnDeadlineWhateverStrangersDo) {
  ASSERT_TRUE(caller_.call(resolve(nobody()).value(), clock_.now() + seconds(1)).has_value());
  const Strangers strangers = flood(caller_.listen("127.0.0.1:0").value(), caller_loop_);
  for (int i = 0; i < 1000 && !strangers.front()->hung_up(); ++i) caller_loop_.turn();
  EXPECT_TRUE(strangers.front()->hung_up());  // the oldest of them gave way
  clock_.advance(seconds(1) - milliseconds(1));
  caller_loop_.turn();
  EXPECT_EQ(std::ranges::count(ended_, Errc::timed_out), 0);
  clock_.advance(milliseconds(1));
  caller_loop_.turn();
  EXPECT_EQ(std::ranges::count(ended_, Errc::timed_out), 1);
}

TEST_F(SlowContacts, AreNotEndedByStrangersOnceTheyAreProven) {
  const Address address = answerer_.listen("127.0.0.1:0").value();
  ASSERT_TRUE(caller_.call(resolve(address).value(), TimePoint::max()).has_value());
  ASSERT_TRUE(turn_until([&] { return heard_; }));
  const Strangers strangers = flood(address, answerer_loop_);
  for (int i = 0; i < 1000 && !strangers.front()->hung_up(); ++i) answerer_loop_.turn();
  EXPECT_TRUE(strangers.front()->hung_up());
  EXPECT_TRUE(turn_until([&] { return agreed_ == 2; }));
}

TEST_F(SlowContacts, AreTurnedAwayWhereNobodyGivesWay) {
  const Address silent = nobody();
  for (std::size_t i = 0; i < Contacts::kMaxHalfOpen; ++i) {
    ASSERT_TRUE(caller_.call(resolve(silent).value(), TimePoint::max()).has_value());
  }
  EXPECT_EQ(caller_.call(resolve(silent).value(), TimePoint::max()).error().code,
            Errc::out_of_capacity);
  Stranger stranger(caller_.listen("127.0.0.1:0").value());
  for (int i = 0; i < 1000 && !stranger.hung_up(); ++i) caller_loop_.turn();
  EXPECT_TRUE(stranger.hung_up());
  EXPECT_TRUE(ended_.empty());
}

TEST(UcxContext, RefusesARendezvousThatTheSenderDrives) {
  for (const char* scheme : {"put_zcopy", "put_ppln", "am", "get_ppln", "rkey_ptr", "auto"}) {
    ::setenv("UCX_RNDV_SCHEME", scheme, 1);
    const auto refused = UcxContext::create();
    ::unsetenv("UCX_RNDV_SCHEME");
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, Errc::invalid_argument);
  }
}

TEST(UcxContext, KnowsWhichAddressesStayOnThisMachine) {
  EXPECT_TRUE(is_loopback("127.0.0.1:9201"));
  EXPECT_TRUE(is_loopback("localhost:9201"));
  EXPECT_TRUE(is_loopback("[::1]:9201"));
  EXPECT_FALSE(is_loopback("0.0.0.0:9201"));
  EXPECT_FALSE(is_loopback("192.0.2.1:9201"));
  EXPECT_FALSE(is_loopback("nonsense"));
}

}  // namespace
}  // namespace membrain::ucx_test
