// What a GPU reads out of a page-locked arena by itself: whole, compared and still sealed, or left
// to the ordinary way.
#include "cache/client/arena_pull.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <thread>

#include "base/log.h"
#include "cache/client/arena_pins.h"
#include "cache/client/device_transfer.h"
#include "tests/client/mapped_fixture.h"
#include "tests/cuda/fake_driver.h"
#include "transport/cuda/kernel_image.h"

namespace membrain::mapped_test {
namespace {

namespace fake = cuda::fake;

constexpr std::size_t kSlotBytes = 256 * 1024;
constexpr std::size_t kCacheBytes = 2 << 20;
constexpr std::size_t kPieces = 4;  // of a block on the GPU, with as much between them

class ArenaPulls : public MappedTest {
 protected:
  void SetUp() override {
    if (cuda::kernel_image().empty()) GTEST_SKIP() << "built without clang: no GPU kernels";
    set_log_level(LogLevel::error);
    gpu_ = cuda::Device::open(cuda::Driver::load(FAKE_CUDA).value(), 0).value();
    cache_.emplace(cuda::DeviceBuffer::allocate(gpu_, kCacheBytes).value());
    std::memset(at(0), 0xee, kCacheBytes);
    lane_ = DeviceLane::open(loop_, gpu_, 2, kSlotBytes).value();
    set_ = std::make_shared<ArenaSet>();
    set_->add(mapped_, nullptr, true,
              std::make_shared<PinnedArena>(PinnedArena{mapped_->slots(), kCapacity}));
    pull_ = {[this] { return set_; }, true};
  }
  void TearDown() override {
    fake::pause(false);
    lane_.reset();
    cache_.reset();
    gpu_.reset();
    fake::repair();
    EXPECT_EQ(fake::owned(), 0U) << "something was not given back to the driver";
  }

  [[nodiscard]] std::byte* at(std::size_t offset) const {
    return reinterpret_cast<std::byte*>(cache_->address()) + offset;
  }
  /// A sealed block of the arena, the match's next.
  Location add(std::uint32_t slot, const std::vector<std::byte>& bytes) {
    const Location location = keep(slot, bytes);
    add_block(key_of(slot), {location});
    return location;
  }
  FetchItem paged(std::uint32_t block, std::size_t size) {
    FetchItem item;
    item.block = block;
    for (std::size_t i = 0; i < kPieces; ++i) {
      item.into.push_back({at(next_), size / kPieces});
      next_ += 2 * (size / kPieces);
    }
    return item;
  }
  static std::vector<std::byte> bytes_of(const FetchItem& item) {
    std::vector<std::byte> bytes;
    for (const Piece& piece : item.into) {
      const auto* const data = static_cast<const std::byte*>(piece.data);
      bytes.insert(bytes.end(), data, data + piece.size);
    }
    return bytes;
  }
  /// The ordinary way: what it was asked for is counted, and comes as "the other way".
  Task<Result<TransferReport>> ask(FetchList items) {
    const FetchList wanted = std::move(items);
    TransferReport report;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      asked_.push_back(wanted[i].block);
      wanted[i].into.for_each_piece(
          [](std::byte* data, std::size_t size) { std::memset(data, 0x77, size); });
      report.items.push_back({.ok = true});
      report.bytes += wanted[i].into.size_bytes();
    }
    report.lane_bytes["other"] = report.bytes;
    co_return report;
  }
  void launch(const std::vector<FetchItem>& items) {
    end_.reset();
    asked_.clear();
    DeviceTerms terms;
    terms.options.memory = {0, nullptr};
    terms.deadline = clock_.now() + std::chrono::seconds(20);
    const HostFetch other = [this](auto, auto list, auto, auto) { return ask(std::move(list)); };
    loop_.spawn(put(
        fetch_to_device(*lane_, std::move(terms), match_, FetchList(items), other, pull_), end_));
  }
  static Task<> put(Task<Result<TransferReport>> task, std::optional<Result<TransferReport>>& end) {
    Task<Result<TransferReport>> mine = std::move(task);
    Result<TransferReport> report = co_await mine;
    end.emplace(std::move(report));
  }
  template <class Over>
  void turn_until(Over over) {
    const TimePoint last = clock_.now() + std::chrono::seconds(20);
    while (!over()) {
      ASSERT_LT(clock_.now(), last) << "it does not come to that";
      if (!loop_.turn()) std::this_thread::yield();
    }
  }
  const TransferReport& fetch(const std::vector<FetchItem>& items) {
    launch(items);
    turn_until([this] { return end_.has_value(); });
    EXPECT_TRUE(*end_) << end_->error().context;
    return **end_;
  }
  [[nodiscard]] std::uint64_t pulled() const {
    const auto found = (*end_)->lane_bytes.find(kPulledLane);
    return found == (*end_)->lane_bytes.end() ? 0 : found->second;
  }

  SteadyClock clock_;
  Loop loop_{clock_};
  std::shared_ptr<const cuda::Device> gpu_;
  std::optional<cuda::DeviceBuffer> cache_;
  std::unique_ptr<DeviceLane> lane_;
  PullTerms pull_;
  std::size_t next_ = 0;
  std::vector<std::uint32_t> asked_;
  std::optional<Result<TransferReport>> end_;
};

TEST_F(ArenaPulls, WholeBlocksComeWithoutTheHost) {
  constexpr std::size_t kSizes[] = {256, 4096, 16'384, 65'536, 200'000};
  std::vector<FetchItem> items;
  std::vector<std::vector<std::byte>> sealed;
  std::uint64_t bytes = 0;
  for (const std::size_t size : kSizes) {
    sealed.push_back(content(size, static_cast<unsigned>(size)));
    const auto block = static_cast<std::uint32_t>(items.size());
    add(50 * block, sealed.back());
    items.push_back(paged(block, size));
    bytes += size;
  }
  const TransferReport& report = fetch(items);
  EXPECT_EQ(report.ok_count(), items.size());
  EXPECT_EQ(report.bytes, bytes);
  EXPECT_EQ(pulled(), bytes);
  EXPECT_TRUE(asked_.empty());
  for (std::size_t i = 0; i < items.size(); ++i) EXPECT_EQ(bytes_of(items[i]), sealed[i]) << i;
  for (std::size_t i = 256 / kPieces; i < 2 * (256 / kPieces); ++i) {
    EXPECT_EQ(*at(i), std::byte{0xee}) << "between the pieces";
  }
}

TEST_F(ArenaPulls, TheRestGoesTheOrdinaryWay) {
  add(0, content(4096, 1));
  add(8, content(4100, 2));  // not in sixteens
  add(16, content(128, 3));  // too short to be hashed there
  Location elsewhere = add(24, content(4096, 4));
  elsewhere.node = NodeId{99};
  match_->replicas.back().at = elsewhere;
  add(32, content(4096, 5));
  FetchItem part = paged(4, 2048);  // a range cannot be compared
  part.offset = 1024, part.length = 2048;
  const TransferReport& report =
      fetch({paged(0, 4096), paged(1, 4100), paged(2, 128), paged(3, 4096), part});
  EXPECT_EQ(report.ok_count(), 5U);
  EXPECT_EQ(pulled(), 4096U);
  EXPECT_EQ(asked_, (std::vector<std::uint32_t>{1, 2, 3, 4}));
}

TEST_F(ArenaPulls, ARangeComesIfNobodyWantsItCompared) {
  pull_.verify = false;
  const std::vector<std::byte> sealed = content(8192, 6);
  add(0, sealed);
  FetchItem part = paged(0, 2048);
  part.offset = 1024, part.length = 2048;
  fetch({part});
  EXPECT_EQ(pulled(), 2048U);
  EXPECT_EQ(bytes_of(part), std::vector<std::byte>(&sealed[1024], &sealed[1024] + 2048));
}

TEST_F(ArenaPulls, OfAnArenaThatIsNotPageLockedNothingDoes) {
  set_ = std::make_shared<ArenaSet>();
  set_->add(mapped_);
  add(0, content(4096, 1));
  fetch({paged(0, 4096)});
  EXPECT_EQ(asked_.size(), 1U);
  set_ = nullptr;
  fetch({paged(0, 4096)});
  EXPECT_EQ(asked_.size(), 1U);
}

TEST_F(ArenaPulls, AFlippedBitDoesNotReachThePages) {
  const Location bad = add(0, content(4096, 1));
  add(8, content(4096, 2));
  node_->memory(bad.slot, bad.length)[77] ^= std::byte{1};
  const FetchItem first = paged(0, 4096);
  fetch({first, paged(1, 4096)});
  EXPECT_EQ(asked_, std::vector<std::uint32_t>{0});
  EXPECT_EQ(bytes_of(first)[0], std::byte{0x77}) << "the ordinary way's";
  EXPECT_EQ(pulled(), 4096U);
}

TEST_F(ArenaPulls, WhatTheArenaDoesNotHoldIsNotRead) {
  pull_.verify = false;
  const Location real = keep(0, content(4096, 1));
  Location outside = real;
  outside.slot = SlotId{0x00ffffff};
  Location longer = real;
  longer.length = 8192;
  add_block(key_of(0), {outside});
  add_block(key_of(0), {longer});
  add_block(key_of(7), {real});  // another block's
  fetch({paged(0, 4096), paged(1, 8192), paged(2, 4096)});
  EXPECT_EQ(asked_.size(), 3U);
  EXPECT_EQ(pulled(), 0U);
}

/// The slot is written anew while the GPU reads it. Without checksums only the seal tells.
TEST_F(ArenaPulls, ASlotThatChangesMeanwhileDoesNotReachThePages) {
  for (const bool verify : {true, false}) {
    pull_.verify = verify;
    const auto block = static_cast<std::uint32_t>(match_->keys.size());
    add(0, content(4096, 10 + block));
    const FetchItem item = paged(block, 4096);
    fake::pause(true);
    launch({item});
    for (int i = 0; i < 20; ++i) loop_.turn();
    keep(0, content(4096, 20 + block));
    fake::pause(false);
    turn_until([this] { return end_.has_value(); });
    EXPECT_EQ(asked_, std::vector<std::uint32_t>{block});
    EXPECT_EQ(bytes_of(item)[0], std::byte{0x77});
  }
}

TEST_F(ArenaPulls, SurviveAnyFailedCallOfTheDriver) {
  std::vector<FetchItem> items;
  for (std::uint32_t i = 0; i < 6; ++i) {
    add(32 * i, content(100'000, i));
    items.push_back(paged(i, 100'000));
  }
  const std::uint64_t before = fake::calls();
  fetch(items);
  const std::uint64_t needed = fake::calls() - before;
  std::size_t other = 0;
  for (std::uint64_t call = 0; call < needed; ++call) {
    std::memset(at(0), 0xee, kCacheBytes);
    fake::fail_call(call, cuda::kOutOfMemory);
    launch(items);
    turn_until([this] { return end_.has_value(); });
    fake::repair();
    other += asked_.size();
    for (std::uint32_t i = 0; i < 6 && *end_; ++i) {
      if (!(*end_)->items[i].ok) continue;
      const bool asked = std::ranges::find(asked_, i) != asked_.end();
      EXPECT_EQ(bytes_of(items[i]),
                asked ? std::vector<std::byte>(100'000, std::byte{0x77}) : content(100'000, i));
    }
  }
  EXPECT_GT(other, 0U);
}

// ---- page-locking

TEST_F(ArenaPulls, ArenasArePageLockedInTheBackgroundAndGivenBack) {
  const std::size_t before = fake::owned();
  ArenaPinner::Pinned pinned;
  std::atomic<bool> come = false;
  const auto done = [&](ArenaPinner::Pinned got) {
    pinned = std::move(got);
    come = true;
  };
  {
    ArenaPins pins(gpu_);
    EXPECT_FALSE(pins.needs_writable());
    pins.pin(mapped_, nullptr, done);
    turn_until([&] { return come.load(); });
    ASSERT_TRUE(pinned);
    EXPECT_EQ(pinned->slots.data(), mapped_->slots().data());
    EXPECT_EQ(fake::owned(), before + 1);
    pinned.reset();
    turn_until([&] { return fake::owned() == before; });
    come = false;
    pins.pin(mapped_, nullptr, done);
    turn_until([&] { return come.load(); });
  }
  EXPECT_TRUE(pinned) << "it may outlive who made it";
  pinned.reset();
  EXPECT_EQ(fake::owned(), before);
}

TEST_F(ArenaPulls, WhatCannotBePageLockedIsSaidToBe) {
  const auto second = cuda::Device::open(cuda::Driver::load(FAKE_CUDA).value(), 1).value();
  std::atomic<int> told = 0;
  const auto refused = [&](const ArenaPinner::Pinned& pinned) { told += pinned ? 100 : 1; };
  {
    ArenaPins cannot(second);  // registers nothing that is mapped to be read only
    EXPECT_TRUE(cannot.needs_writable());
    cannot.pin(mapped_, nullptr, refused);
    turn_until([&] { return told == 1; });
    ArenaPins stopped(gpu_);
    stopped.stop();
    stopped.pin(mapped_, nullptr, refused);
    turn_until([&] { return told == 2; });
  }
}

/// The driver refuses a copy that touches two of them.
TEST_F(ArenaPulls, ABlockAcrossWhatWasLockedByItselfComesInTwoCopies) {
  constexpr std::size_t kPart = 64 * 1024;
  ArenaPins pins(gpu_, kPart);
  ArenaPinner::Pinned pinned;
  std::atomic<bool> come = false;
  pins.pin(mapped_, nullptr, [&](ArenaPinner::Pinned got) {
    pinned = std::move(got);
    come = true;
  });
  turn_until([&] { return come.load(); });
  ASSERT_TRUE(pinned);
  set_ = std::make_shared<ArenaSet>();
  set_->add(mapped_, nullptr, true, pinned);
  constexpr std::size_t kSizes[] = {100'000, 65'536, 4096, 200'000};
  constexpr std::uint32_t kSlots[] = {3, 48, 100, 120};  // the last touches more than two
  std::vector<FetchItem> items;
  std::vector<std::vector<std::byte>> sealed;
  for (std::uint32_t i = 0; i < 4; ++i) {
    sealed.push_back(content(kSizes[i], i));
    add(kSlots[i], sealed.back());
    items.push_back(paged(i, kSizes[i]));
  }
  fetch(items);
  EXPECT_EQ(pulled(), 100'000U + 65'536 + 4096);
  EXPECT_EQ(asked_, std::vector<std::uint32_t>{3});
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(bytes_of(items[i]), sealed[i]) << i;
  set_ = nullptr;
}

/// Opens an arena that lies in a file as its node's door would.
class FileOpener final : public ArenaOpener {
 public:
  FileOpener(const Arena& arena, bool lends) noexcept : arena_(arena), lends_(lends) {}
  Task<Result<std::shared_ptr<const MappedArena>>> open(wire::NodeEntry node, TimePoint) override {
    const Result<Descriptor> file = arena_.share();
    co_return MappedArena::map(*file, node.node, node.incarnation);
  }
  Task<Result<std::shared_ptr<const WritableArena>>> open_writable(wire::NodeEntry node,
                                                                   TimePoint) override {
    if (!lends_) co_return fail(Errc::denied, "no");
    const Result<Arena::Writable> writable = arena_.share_writable();
    co_return WritableArena::map(writable->file, node.node, node.incarnation, writable->writer);
  }

 private:
  const Arena& arena_;
  const bool lends_;
};

/// As most GPUs are that are cards of their own.
class PullsOfAGpuThatLocksNothingReadOnly : public ArenaPulls {
 protected:
  void SetUp() override {
    ArenaPulls::SetUp();
    if (IsSkipped()) return;
    std::string path = "/dev/shm/membrain-test-XXXXXX";
    directory_ = ::mkdtemp(path.data());
    node_ = Arena::open({"a", kCapacity, false, directory_}).value();
    life_ = node_->begin_life();
    auto* header = reinterpret_cast<ArenaHeader*>(const_cast<std::byte*>(node_->mapping().data()));
    header->node = kNode.value;
    header->layout_check = header->check_of();
  }
  void TearDown() override {
    set_.reset();
    ArenaPulls::TearDown();
    std::filesystem::remove_all(directory_);
  }
  /// A client's arenas, when they are page-locked or cannot be.
  void settle(bool lends) {
    const auto second = cuda::Device::open(cuda::Driver::load(FAKE_CUDA).value(), 1).value();
    MappedNodes nodes(loop_, std::make_unique<FileOpener>(*node_, lends), "here");
    nodes.set_pinner(std::make_unique<ArenaPins>(second));
    wire::NodeEntry entry;
    entry.node = kNode;
    entry.incarnation = life_;
    entry.alive = true;
    entry.host = "here";
    entry.door = "a door";
    nodes.update({entry});
    turn_until([&] { return nodes.arenas() && nodes.arenas()->find(kNode) != nullptr; });
    if (lends) turn_until([&] { return nodes.arenas()->pinned(kNode) != nullptr; });
    set_ = std::const_pointer_cast<ArenaSet>(nodes.arenas());
    bool over = false;
    loop_.spawn(end(nodes, over));
    turn_until([&] { return over; });
  }
  static Task<> end(MappedNodes& nodes, bool& over) {
    Task<> stopping = nodes.stop();
    co_await stopping;
    over = true;
  }

  std::filesystem::path directory_;
};

TEST_F(PullsOfAGpuThatLocksNothingReadOnly, ComeByTheMappingForStoresInPlace) {
  settle(true);
  ASSERT_TRUE(set_ && set_->pinned(kNode) != nullptr);
  const PinnedArena& pinned = *set_->pinned(kNode);
  EXPECT_NE(pinned.slots.data(), (*set_->find(kNode))->slots().data());
  EXPECT_EQ(pinned.slots.data(), set_->writable(kNode)->slots().data());
  const std::vector<std::byte> sealed = content(100'000, 4);
  add(8, sealed);
  const FetchItem item = paged(0, sealed.size());
  fetch({item});
  EXPECT_EQ(pulled(), sealed.size());
  EXPECT_EQ(bytes_of(item), sealed);
}

TEST_F(PullsOfAGpuThatLocksNothingReadOnly, GoTheOrdinaryWayIfTheNodeLendsNothing) {
  settle(false);
  EXPECT_EQ(set_->pinned(kNode), nullptr);
  add(8, content(4096, 4));
  fetch({paged(0, 4096)});
  EXPECT_EQ(asked_.size(), 1U);
}

}  // namespace
}  // namespace membrain::mapped_test
