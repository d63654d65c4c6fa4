#include "cache/node/arena_door.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "protocol/door.h"
#include "transport/fd_passing.h"

namespace membrain {
namespace {

using wire::DoorFrame;
using State = local::Received::State;

constexpr int kEnoughTurns = 2000;

class ArenaDoorTest : public ::testing::Test {
 protected:
  ArenaDoorTest() {
    std::string path = "/dev/shm/membrain-test-XXXXXX";
    directory_ = ::mkdtemp(path.data());
    arena_ = Arena::open({"a", 1 << 20, false, directory_}).value();
    life_ = arena_->begin_life();
    door_ = std::make_unique<ArenaDoor>(loop_, *arena_);
    EXPECT_TRUE(door_->open());
  }
  ~ArenaDoorTest() override { std::filesystem::remove_all(directory_); }

  [[nodiscard]] Descriptor knock() const { return local::connect(door_->name()).value(); }
  void ask(const Descriptor& socket, const DoorFrame& frame) {
    EXPECT_TRUE(local::send(socket, frame.encode(), Descriptor()));
  }
  /// What the door says to this caller.
  local::Received heard(const Descriptor& socket) {
    for (int i = 0; i < kEnoughTurns; ++i) {
      loop_.turn();
      local::Received received = local::receive(socket, packet_);
      if (received.state != State::nothing) return received;
    }
    local::Received silence;
    silence.state = State::nothing;
    return silence;
  }
  [[nodiscard]] DoorFrame frame(DoorFrame::Kind kind) const {
    return {kind, arena_->node(), life_};
  }

  ManualClock clock_;
  Loop loop_{clock_};
  std::string directory_;
  std::unique_ptr<Arena> arena_;
  Incarnation life_;
  std::unique_ptr<ArenaDoor> door_;
  std::array<std::byte, 64> packet_{};
};

TEST_F(ArenaDoorTest, HandsOutTheArenaForReadingAlone) {
  arena_->slots()[5] = std::byte{42};
  const Descriptor caller = knock();
  ask(caller, frame(DoorFrame::Kind::read));
  const local::Received received = heard(caller);
  ASSERT_EQ(received.state, State::packet);
  EXPECT_EQ(DoorFrame::decode(std::span(packet_).first(received.size)),
            frame(DoorFrame::Kind::here));
  ASSERT_TRUE(received.file);
  const std::size_t size = arena_->mapping().size();
  EXPECT_EQ(::mmap(nullptr, size, PROT_WRITE, MAP_SHARED, received.file.fd(), 0), MAP_FAILED);
  void* seen = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, received.file.fd(), 0);
  ASSERT_NE(seen, MAP_FAILED);
  const auto at = static_cast<std::size_t>(arena_->slots().data() - arena_->mapping().data());
  EXPECT_EQ(static_cast<std::byte*>(seen)[at + 5], std::byte{42});
  ::munmap(seen, size);
  EXPECT_EQ(heard(caller).state, State::ended) << "the door hangs up";
}

TEST_F(ArenaDoorTest, HandsItOutForWritingToWhoeverAsks) {
  const Descriptor caller = knock();
  ask(caller, frame(DoorFrame::Kind::write));
  const local::Received received = heard(caller);
  ASSERT_TRUE(received.file);
  EXPECT_EQ(::fcntl(received.file.fd(), F_GETFL) & O_ACCMODE, O_RDWR);
}

TEST_F(ArenaDoorTest, KeepsTheLockWhenCallersKeepTheFile) {
  const Descriptor caller = knock();
  ask(caller, frame(DoorFrame::Kind::write));
  const local::Received received = heard(caller);
  ASSERT_TRUE(received.file);
  door_.reset();
  arena_.reset();
  EXPECT_TRUE(Arena::open({"a", 1 << 20, false, directory_})) << "the next life could not lock it";
}

TEST_F(ArenaDoorTest, RefusesWhoMeansAnotherLifeOrAnotherNode) {
  for (const DoorFrame& other :
       {DoorFrame{DoorFrame::Kind::read, arena_->node(), {99}},
        DoorFrame{DoorFrame::Kind::read, {1}, life_}, frame(DoorFrame::Kind::here)}) {
    const Descriptor caller = knock();
    ask(caller, other);
    const local::Received received = heard(caller);
    ASSERT_EQ(received.state, State::packet);
    EXPECT_FALSE(received.file);
    EXPECT_EQ(DoorFrame::decode(std::span(packet_).first(received.size)),
              frame(DoorFrame::Kind::refused));
  }
}

TEST_F(ArenaDoorTest, HangsUpOnJunk) {
  for (const std::size_t size : {1u, 15u, 16u, 17u, 5000u}) {
    const Descriptor caller = knock();
    EXPECT_TRUE(local::send(caller, std::vector<std::byte>(size, std::byte{0xff}), Descriptor()));
    EXPECT_EQ(heard(caller).state, State::ended) << size;
  }
}

TEST_F(ArenaDoorTest, HangsUpOnASilentCallerAfterAWhile) {
  const Descriptor caller = knock();
  EXPECT_EQ(heard(caller).state, State::nothing);
  clock_.advance(ArenaDoor::kPatience + std::chrono::milliseconds(1));
  EXPECT_EQ(heard(caller).state, State::ended);
}

TEST_F(ArenaDoorTest, DropsTheOldestSilentCallerForANewerOne) {
  std::vector<Descriptor> silent;
  for (std::size_t i = 0; i <= ArenaDoor::kMaxCallers; ++i) {
    silent.push_back(knock());
    for (int turn = 0; turn < kEnoughTurns / 10; ++turn) loop_.turn();
  }
  EXPECT_EQ(heard(silent.front()).state, State::ended);
  ask(silent.back(), frame(DoorFrame::Kind::read));
  EXPECT_TRUE(heard(silent.back()).file);
}

TEST_F(ArenaDoorTest, IsGoneWhenItIsClosed) {
  const std::string name = door_->name();
  door_->close();
  EXPECT_FALSE(local::connect(name));
  EXPECT_TRUE(door_->name().empty());
}

TEST(ArenaDoor, OfAnAnonymousArenaStaysShut) {
  ManualClock clock;
  Loop loop(clock);
  const std::unique_ptr<Arena> arena = Arena::anonymous(1 << 20).value();
  ArenaDoor door(loop, *arena);
  const Result<> opened = door.open();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::unavailable);
}

}  // namespace
}  // namespace membrain
