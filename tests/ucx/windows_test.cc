// Remote reads: every byte, or an end; nothing outside the window; nothing after the end.
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "tests/ucx/lane.h"
#include "transport/descriptor.h"
#include "transport/loop.h"
#include "transport/ucx/ucx_windows.h"

namespace membrain::ucx_test {
namespace {

constexpr std::size_t kBytes = 4 << 20;

std::vector<std::byte> noise(std::size_t size, unsigned seed) {
  std::vector<std::byte> bytes(size);
  std::uint32_t state = seed * 2654435761U + 1;
  for (std::byte& one : bytes) {
    state = state * 1664525 + 1013904223;
    one = static_cast<std::byte>(state >> 24);
  }
  return bytes;
}

/// Two parties, each with Windows on a loop of its own, turned by the test.
class UcxWindowsTest : public testing::TestWithParam<Lane> {
 protected:
  void SetUp() override {
    owner_ = make(owner_loop_, GetParam().devices);
    reader_ = make(reader_loop_, GetParam().peer_devices);
    memory_ = noise(kBytes, 1);
    window_ = owner_->open(memory_).value();
    EXPECT_LE(window_.size(), Windows::kMaxWindowBytes);
  }
  void TearDown() override {
    if (remote_) close();
  }

  static std::unique_ptr<Windows> make(Loop& loop, const std::string& devices) {
    UcxContextConfig config;
    config.devices = devices;
    if (GetParam().kind == "shm") config.transports = "posix,sysv,cma,self";
    return make_ucx_windows(loop, config).value();
  }
  template <class Over>
  void turn_until(Over over) {
    const TimePoint until = clock_.now() + std::chrono::seconds(30);
    while (!over() && clock_.now() < until) {
      bool worked = owner_ && owner_loop_.turn();
      worked |= reader_loop_.turn();
      if (!worked) std::this_thread::yield();
    }
    ASSERT_TRUE(over()) << "it does not come to that";
  }
  void enter() { remote_ = reader_->enter(window_).value(); }
  Result<> read(std::uint64_t offset, std::vector<Segment> into) {
    Completion done(reader_loop_.ready());
    remote_->read(offset, into, done);
    turn_until([&] { return done.done(); });
    return done.outcome();
  }
  static Task<> close_into(RemoteWindow& window, bool& closed) {
    Task<> closing = window.close();
    co_await closing;
    closed = true;
  }
  void close() {
    bool closed = false;
    reader_loop_.spawn(close_into(*remote_, closed));
    turn_until([&] { return closed; });
    remote_.reset();
  }
  [[nodiscard]] std::vector<std::byte> wanted(std::size_t offset, std::size_t size) const {
    const auto begin = memory_.begin() + static_cast<std::ptrdiff_t>(offset);
    return {begin, begin + static_cast<std::ptrdiff_t>(size)};
  }

  SteadyClock clock_;
  Loop owner_loop_{clock_};
  Loop reader_loop_{clock_};
  std::vector<std::byte> memory_;
  std::unique_ptr<Windows> owner_;
  std::unique_ptr<Windows> reader_;
  std::vector<std::byte> window_;
  std::unique_ptr<RemoteWindow> remote_;
};

TEST_P(UcxWindowsTest, AreReadAtAnyPlaceInAnySize) {
  enter();
  EXPECT_EQ(remote_->size_bytes(), kBytes);
  for (const std::size_t size : {1U, 7U, 64U, 4096U, 65'536U, 1'000'003U}) {
    for (const std::size_t offset : {std::size_t{0}, std::size_t{12'345}, kBytes - size}) {
      std::vector<std::byte> into(size);
      ASSERT_TRUE(read(offset, {{into.data(), size}}));
      ASSERT_EQ(into, wanted(offset, size)) << size << " bytes at " << offset;
    }
  }
}

TEST_P(UcxWindowsTest, AreReadIntoManyPieces) {
  enter();
  std::vector<std::byte> into(200'000);
  std::vector<Segment> pieces;
  std::vector<std::byte> expected(into.size());
  std::size_t taken = 0;
  for (std::size_t at = 0; at + 3000 < into.size(); at += 5000) {
    const std::size_t size = at % 3000 + 1;
    pieces.push_back({into.data() + at, size});
    std::memcpy(expected.data() + at, memory_.data() + 777 + taken, size);
    taken += size;
  }
  pieces.push_back({nullptr, 0});
  ASSERT_TRUE(read(777, pieces));
  EXPECT_EQ(into, expected);
}

TEST_P(UcxWindowsTest, ShowWhatTheOwnerHasWrittenMeanwhile) {
  enter();
  std::vector<std::byte> into(1000);
  ASSERT_TRUE(read(5000, {{into.data(), into.size()}}));
  const std::vector<std::byte> later = noise(kBytes, 2);
  std::copy(later.begin(), later.end(), memory_.begin());
  ASSERT_TRUE(read(5000, {{into.data(), into.size()}}));
  EXPECT_EQ(into, wanted(5000, 1000));
}

TEST_P(UcxWindowsTest, ServeManyReadsAtOnce) {
  enter();
  constexpr std::size_t kReads = 64;
  std::vector<std::vector<std::byte>> into(kReads, std::vector<std::byte>(50'000));
  std::vector<std::unique_ptr<Completion>> ends;
  for (std::size_t i = 0; i < kReads; ++i) {
    ends.push_back(std::make_unique<Completion>(reader_loop_.ready()));
    const Segment piece{into[i].data(), into[i].size()};
    remote_->read(i * 60'000, {&piece, 1}, *ends.back());
  }
  turn_until(
      [&] { return std::ranges::all_of(ends, [](const auto& end) { return end->done(); }); });
  for (std::size_t i = 0; i < kReads; ++i) {
    ASSERT_TRUE(ends[i]->outcome());
    ASSERT_EQ(into[i], wanted(i * 60'000, 50'000)) << i;
  }
}

TEST_P(UcxWindowsTest, AreNotReadBeyondTheirEnd) {
  enter();
  std::vector<std::byte> into(100);
  const std::vector<Segment> piece = {{into.data(), into.size()}};
  for (const std::uint64_t offset : {kBytes - 99, kBytes, kBytes + 1, ~std::size_t{0} - 50}) {
    const Result<> refused = read(offset, piece);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::invalid_argument);
  }
  EXPECT_EQ(into, std::vector<std::byte>(100));
  EXPECT_TRUE(read(kBytes - 100, piece)) << "and go on";
}

TEST_P(UcxWindowsTest, AreNotEnteredByBytesThatAreNone) {
  std::vector<std::byte> bytes = window_;
  bytes.resize(20);
  EXPECT_FALSE(reader_->enter(bytes));
  EXPECT_FALSE(reader_->enter({}));
  bytes = window_;
  bytes[0] ^= std::byte{1};
  EXPECT_FALSE(reader_->enter(bytes));
  bytes = window_;
  bytes[5] = std::byte{0xff};  // a worker's address longer than all of it
  EXPECT_FALSE(reader_->enter(bytes));
  EXPECT_FALSE(reader_->enter(std::vector<std::byte>(Windows::kMaxWindowBytes + 1)));
}

TEST_P(UcxWindowsTest, EndTheirReadsWhenTheyAreClosed) {
  enter();
  std::vector<std::byte> warm(10);
  ASSERT_TRUE(read(0, {{warm.data(), warm.size()}}));
  std::vector<std::byte> into(kBytes);
  const Segment piece{into.data(), into.size()};
  Completion done(reader_loop_.ready());
  remote_->read(0, {&piece, 1}, done);
  bool closed = false;
  reader_loop_.spawn(close_into(*remote_, closed));
  turn_until([&] { return closed; });
  EXPECT_TRUE(done.done()) << "nothing may land after the end";
  EXPECT_TRUE(!done.outcome() || into == memory_);
  const std::vector<std::byte> then = into;
  std::ranges::fill(memory_, std::byte{0xee});
  for (int i = 0; i < 1000; ++i) reader_loop_.turn();
  EXPECT_EQ(into, then);
  EXPECT_FALSE(remote_->usable());
  Completion late(reader_loop_.ready());
  remote_->read(0, {&piece, 1}, late);
  ASSERT_TRUE(late.done());
  EXPECT_EQ(late.outcome().error().code, Errc::peer_lost);
  remote_.reset();
}

TEST_P(UcxWindowsTest, CloseBeforeTheFirstRead) {
  enter();
  close();
  enter();
  std::vector<std::byte> into(10);
  EXPECT_TRUE(read(0, {{into.data(), into.size()}}));
}

/// How many descriptors the epoll set has that watches this one.
std::size_t watched_beside(int fd) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fdinfo")) {
    std::ifstream info(entry.path());
    std::size_t watched = 0;
    bool found = false;
    for (std::string word; info >> word;) {
      int one = -1;
      if (word != "tfd:" || !(info >> one)) continue;
      ++watched;
      found |= one == fd;
    }
    if (found) return watched;
  }
  return 0;
}

class Deaf final : public FdHandler {
 public:
  void on_ready(std::uint32_t) override {}
};

TEST_P(UcxWindowsTest, WakeALoopThatHasWatchedSomethingBefore) {
  Loop loop(clock_);
  Deaf handler;
  const Descriptor event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  ASSERT_TRUE(loop.watch(event.fd(), EPOLLIN, handler));
  const std::size_t before = watched_beside(event.fd());
  const std::unique_ptr<Windows> windows = make(loop, GetParam().devices);
  EXPECT_EQ(watched_beside(event.fd()), before + 1);
  loop.unwatch(event.fd());
}

/// Keys that are not good any more, where hardware looks at them: shared memory does not.
class UcxWindowKeys : public UcxWindowsTest {
 protected:
  struct Parts {
    std::vector<std::byte> head, address, key;
  };
  /// What a window's bytes are made of: 24 bytes, of which the second four say how long the
  /// address is; that; the key.
  static Parts parts_of(const std::vector<std::byte>& window) {
    std::uint32_t address_bytes = 0;
    std::memcpy(&address_bytes, window.data() + 4, sizeof address_bytes);
    const auto address = window.begin() + 24;
    const auto key = address + address_bytes;
    return {{window.begin(), address}, {address, key}, {key, window.end()}};
  }
  static std::vector<std::byte> window_of(const Parts& parts) {
    std::vector<std::byte> window = parts.head;
    window.insert(window.end(), parts.address.begin(), parts.address.end());
    window.insert(window.end(), parts.key.begin(), parts.key.end());
    return window;
  }
  /// Reads, and expects an error and not one byte.
  void expect_nothing() {
    std::vector<std::byte> into(100'000, std::byte{0x55});
    const Result<> refused = read(4096, {{into.data(), into.size()}});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::peer_lost);
    EXPECT_EQ(into, std::vector<std::byte>(into.size(), std::byte{0x55}));
    EXPECT_FALSE(remote_->usable());
  }
};

TEST_P(UcxWindowKeys, AreWorthNothingOnceTheirOwnerHasClosedTheWindow) {
  enter();
  std::vector<std::byte> into(1000);
  ASSERT_TRUE(read(0, {{into.data(), into.size()}}));
  owner_.reset();
  std::ranges::fill(memory_, std::byte{0xee});
  expect_nothing();
}

TEST_P(UcxWindowKeys, OfAnEarlierLifeReadNothingOfTheNext) {
  const Parts before = parts_of(window_);
  owner_.reset();  // its keys are revoked; the memory is opened once more, by another life
  owner_ = make(owner_loop_, GetParam().devices);
  const std::vector<std::byte> now = owner_->open(memory_).value();
  Parts mixed = parts_of(now);
  mixed.head = before.head;
  std::memcpy(mixed.head.data() + 4, now.data() + 4, 4);  // the next life's address is that long
  mixed.key = before.key;
  window_ = window_of(mixed);
  enter();
  expect_nothing();
  close();
  window_ = now;
  enter();
  std::vector<std::byte> into(1000);
  ASSERT_TRUE(read(5000, {{into.data(), into.size()}})) << "the right key opens it";
  EXPECT_EQ(into, wanted(5000, 1000));
}

TEST_P(UcxWindowKeys, OpenTheirOwnMemoryAlone) {
  std::vector<std::byte> other = noise(kBytes, 7);
  const std::vector<std::byte> next = owner_->open(other).value();
  Parts mixed = parts_of(next);  // of one worker: the addresses are the same
  mixed.key = parts_of(window_).key;
  window_ = window_of(mixed);
  enter();
  expect_nothing();
}

std::vector<Lane> window_lanes() {
  std::vector<Lane> lanes = {shm_lane()};
  for (Lane& lane : rdma_lanes()) {
    if (lane.name == "rdma") lanes.push_back(std::move(lane));
  }
  return lanes;
}

INSTANTIATE_TEST_SUITE_P(Lanes, UcxWindowsTest, testing::ValuesIn(window_lanes()),
                         [](const auto& lane) { return lane.param.name; });

std::vector<Lane> hardware_lanes() {
  std::vector<Lane> lanes = window_lanes();
  std::erase_if(lanes, [](const Lane& lane) { return lane.kind == "shm"; });
  return lanes;
}

/// In the rdma ring, which counts them (tests/rdma).
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(UcxWindowKeys);
INSTANTIATE_TEST_SUITE_P(Lanes, UcxWindowKeys, testing::ValuesIn(hardware_lanes()),
                         [](const auto& lane) { return lane.param.name; });

TEST(UcxWindowsWithout, HardwareThereAreNone) {
  if (!rdma_lanes().empty()) GTEST_SKIP() << "this machine has the hardware";
  const SteadyClock clock;
  Loop loop(clock);
  const auto none = make_ucx_windows(loop, {});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, Errc::unavailable);
}

}  // namespace
}  // namespace membrain::ucx_test
