// Leaders that cannot be reached: whose lease is ended, and whose is not.
#include "server/cluster/leader_watch.h"

#include <gtest/gtest.h>
#include <netdb.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "tests/cluster/election_fixture.h"

namespace membrain::election_test {
namespace {

/// Nobody is reached, for a reason that the test says.
class DeadEnd final : public Fabric {
 public:
  explicit DeadEnd(Loop& loop) : loop_(loop) {}

  Error why{Errc::timed_out};
  std::size_t attempts = 0;

  [[nodiscard]] Loop& loop() noexcept override { return loop_; }
  void set_receiver(Receiver&) noexcept override {}
  Result<Address> listen(const Address& address) override { return address; }
  Task<Result<PeerId>> connect(Address, TimePoint) override {
    ++attempts;
    co_return fail(why);
  }
  Result<> send(PeerId, std::span<const std::byte>) override { return lost(); }
  void send(PeerId, std::span<const std::byte>, std::span<const Segment>,
            Completion& done) override {
    done.finish(lost());
  }
  void receive(Payload, std::span<const Segment>, Completion& done) override {
    done.finish(lost());
  }
  Task<> close(PeerId) override { co_return; }
  Result<std::unique_ptr<Region>> register_memory(std::span<std::byte>) override { return lost(); }
  [[nodiscard]] std::string_view lane(PeerId) const noexcept override { return "none"; }
  [[nodiscard]] std::string route(PeerId) const override { return "none"; }
  [[nodiscard]] std::array<std::byte, 32> binding(PeerId) const noexcept override { return {}; }

 private:
  static tl::unexpected<Error> lost() { return fail(Errc::peer_lost, "there is no connection"); }
  void discard(std::uint64_t) noexcept override {}

  Loop& loop_;
};

Task<> note_end(Task<> task, bool& ended) {
  co_await task;
  ended = true;
}

/// One leads; two follows, and watches it.
class LeaderWatchTest : public ElectionTest {
 protected:
  LeaderWatchTest() {
    pass(milliseconds(500));
    two_ = &candidate("two");
    pass(milliseconds(500));
    way_ = std::make_unique<DeadEnd>(two_->loop);
    watch_ = std::make_unique<LeaderWatch>(way_.get(), two_->membership);
  }
  ~LeaderWatchTest() override {
    bool ended = false;
    two_->loop.spawn(note_end(watch_->stop(), ended));
    pass(milliseconds(500));
    EXPECT_TRUE(ended);
    watch_.reset();
  }
  void follow() { watch_->follow(two_->election, "one", one_.membership.lease()); }
  /// As etcd has it.
  [[nodiscard]] bool stands(LeaseId lease) const {
    const std::string name = one_.membership.names().server("one");
    const CoordinationView view = coordinator_.state.read(name);
    const CoordinationEntry* const entry = view.find(name);
    return entry != nullptr && entry->lease == lease;
  }

  Candidate& one_ = candidate("one");
  Candidate* two_ = nullptr;
  std::unique_ptr<DeadEnd> way_;
  std::unique_ptr<LeaderWatch> watch_;
};

TEST_F(LeaderWatchTest, ALeaderThatRefusesConnectionsIsDeadAndAnotherLeadsAtOnce) {
  ASSERT_TRUE(one_.leads());
  one_.paused = one_.dead = true;
  const LeaseId lease = one_.membership.lease();
  way_->why = {Errc::unavailable, ECONNREFUSED};
  follow();
  pass(milliseconds(500));
  EXPECT_FALSE(stands(lease));
  EXPECT_TRUE(two_->leads()) << "long before the lease would have run out";
}

TEST_F(LeaderWatchTest, ALeaderThatCannotBeReachedForAnotherReasonLeadsOn) {
  ASSERT_TRUE(one_.leads());
  const LeaseId lease = one_.membership.lease();
  const Error reasons[] = {
      {Errc::unavailable},  // it hung up
      {Errc::unavailable, EHOSTUNREACH},
      {Errc::unavailable, ENETUNREACH},
      {Errc::unavailable, ECONNRESET},
      {Errc::unavailable, EADDRNOTAVAIL},
      {Errc::unavailable, EAI_AGAIN},
      {Errc::unavailable, EAI_NONAME},
      {Errc::out_of_capacity, EMFILE},
      {Errc::timed_out},
      {Errc::denied},
      {Errc::denied, ECONNREFUSED},
  };
  way_->why = reasons[0];
  follow();
  for (const Error& why : reasons) {
    way_->why = why;
    const std::size_t before = way_->attempts;
    pass(milliseconds(300));
    EXPECT_GT(way_->attempts, before);
    ASSERT_TRUE(stands(lease)) << to_string(why.code) << " " << why.native;
  }
  EXPECT_TRUE(one_.leads());
  EXPECT_EQ(one_.terms.size(), 1U);
}

TEST_F(LeaderWatchTest, ALeaseThatIsOverIsEndedBeforeEtcdLooks) {
  for (const bool connects : {true, false}) {
    coordinator_.late_ends = seconds(10);
    Candidate& leads = connects ? one_ : *two_;
    Candidate& follows = connects ? *two_ : candidate("three");
    ASSERT_TRUE(leads.leads());
    pass(milliseconds(500));
    LeaderWatch watch(connects ? way_.get() : nullptr, follows.membership);
    watch.follow(follows.election, "the leader", leads.membership.lease());
    pass(5 * kLease);
    ASSERT_TRUE(leads.leads()) << "it renews its lease";
    leads.paused = leads.dead = true;
    pass(kLease / 3 * 2 - milliseconds(100));
    ASSERT_FALSE(follows.leads()) << "until then it may live";
    pass(kLease / 3 * 2 + milliseconds(200));
    EXPECT_TRUE(follows.leads());
    watch.follow(follows.election, {}, {});
    bool ended = false;
    follows.loop.spawn(note_end(watch.stop(), ended));
    pass(milliseconds(500));
    EXPECT_TRUE(ended);
  }
}

TEST_F(LeaderWatchTest, AServerThatIsNoMemberEndsNobodysLease) {
  ASSERT_TRUE(one_.leads());
  bool left = false;
  two_->loop.spawn(note_end(two_->membership.stop(), left));
  pass(milliseconds(100));
  ASSERT_TRUE(left);
  way_->why = {Errc::unavailable, ECONNREFUSED};
  follow();
  pass(milliseconds(500));
  EXPECT_GT(way_->attempts, 1U);
  EXPECT_TRUE(stands(one_.membership.lease()));
  EXPECT_TRUE(one_.leads());
}

}  // namespace
}  // namespace membrain::election_test
