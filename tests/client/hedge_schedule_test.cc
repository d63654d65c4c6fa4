// Seeded schedules of fetches, hedged ones among them, from nodes that are slow, silent, wrong and
// late: what is reported is right, and nothing lands afterwards.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "base/log.h"
#include "cache/client/fetch_exchange.h"
#include "tests/client/fetch_fixture.h"

namespace membrain::client_test {
namespace {

using Mood = FakeNode::Mood;

constexpr unsigned kBlocks = 12;
constexpr std::byte kTaken{0x77};  ///< what a caller writes into memory that is its own again

std::size_t size_of(unsigned block) {
  constexpr std::size_t kSizes[] = {100, 4000, 20'000, 60'000};
  return kSizes[block % std::size(kSizes)];
}

/// One fetch: its memory, and what has become of it.
struct Flight {
  TimePoint began;
  TimePoint ended;
  milliseconds timeout{};
  std::vector<unsigned> blocks;
  std::vector<std::vector<std::byte>> into;
  std::vector<bool> told;
  std::shared_ptr<CancelToken> token = std::make_shared<CancelToken>();
  std::optional<Result<TransferReport>> result;
  bool seen = false;
};

struct Sums {
  Detours detours;
  std::size_t ok = 0;
  std::size_t missed = 0;
  std::size_t late = 0;  ///< answers to what was over
};

class HedgeSchedule : public FetchTest {
 public:
  HedgeSchedule(std::uint64_t seed, Sums& sums)
      : FetchTest(SimFaults{}, seed), random_(network_.random()), sums_(sums) {
    shard_.nodes.push_back(&node3_);
    config_.verify_checksums = seed % 3 != 0;
    node1_.host = seed % 2 == 0 ? "here" : "elsewhere";
  }
  void TestBody() override {}

  void run() {
    begin();
    std::vector<unsigned> numbers;
    for (unsigned block = 0; block < kBlocks; ++block) {
      numbers.push_back(block);
      std::vector<FakeNode*> on = nodes();
      if (block % 4 != 3) on.erase(on.begin() + static_cast<std::ptrdiff_t>(block % 3));
      expected_.push_back(publish(block, size_of(block), on));
    }
    match_ = lookup(numbers).value();
    for (int round = 0; round < 30; ++round) {
      draw_faults();
      for (std::uint64_t i = random_.below(4); i > 0; --i) take_off();
      run_for(milliseconds(1 + random_.below(120)));
      look();
    }
    heal();
    run_for(seconds(8));
    look();
    for (const Flight& flight : flights_) {
      EXPECT_TRUE(flight.seen) << "a fetch never ended";
      expect_untouched(flight);
    }
    check_recovered();
  }

 private:
  std::vector<FakeNode*> nodes() { return {&node1_, &node2_, &node3_}; }

  void draw_faults() {
    constexpr Mood kMoods[] = {Mood::serve, Mood::serve, Mood::serve,  Mood::hang,
                               Mood::hang,  Mood::stale, Mood::refuse, Mood::vanish};
    FakeNode& node = *nodes()[random_.below(3)];
    const std::string name = "node" + std::to_string(node.entry().node.value);
    node.mood = kMoods[random_.below(std::size(kMoods))];
    if (config_.verify_checksums && random_.chance(0.1)) node.mood = Mood::corrupt;
    if (random_.chance(0.2)) network_.slow_down(name, milliseconds(random_.below(70)));
    if (random_.chance(0.1)) network_.pause(name);
    if (random_.chance(0.5)) network_.resume(name);
    if (random_.chance(0.1)) network_.partition("client", name, true);
    if (random_.chance(0.3)) network_.heal_partitions();
    if (random_.chance(0.05)) network_.reset_connections("client", name);
    SimFaults faults;
    faults.loss = random_.chance(0.2) ? 0.05 : 0;
    faults.duplicate = random_.chance(0.2) ? 0.1 : 0;
    faults.reorder = random_.chance(0.2) ? 0.2 : 0;
    faults.bit_flip = config_.verify_checksums && random_.chance(0.2) ? 0.1 : 0;
    network_.set_faults(faults);
    answer_late();
  }

  /// What a node left unanswered some time ago it answers now, maybe with other bytes.
  void answer_late() {
    for (FakeNode* node : nodes()) {
      if (node->fetches.empty() || !node->peers.contains(node->last_peer)) continue;
      const auto& [op, fetch] = node->fetches[random_.below(node->fetches.size())];
      std::vector<wire::DataItem> items;
      std::vector<std::byte> bytes;
      for (const wire::FetchItem& item : fetch.items) {
        const unsigned block = block_of(item.key);
        std::vector<std::byte> part = expected_[block];
        if (config_.verify_checksums && random_.chance(0.3)) part = content(part.size(), 1234);
        items.push_back({item.tag, wire::ItemStatus::ok, item.length});
        bytes.insert(bytes.end(), part.begin(), part.end());
      }
      node->send_data(node->last_peer, op, std::move(items), std::move(bytes));
      ++sums_.late;
    }
  }
  unsigned block_of(const BlockKey& key) const {
    for (unsigned block = 0; block < kBlocks; ++block) {
      if (key_of(block) == key) return block;
    }
    ADD_FAILURE() << "a key of nobody";
    return 0;
  }

  void take_off() {
    Flight& flight = flights_.emplace_back();
    flight.began = clock_.now();
    flight.timeout = milliseconds(20 + random_.below(900));
    std::vector<FetchItem> items;
    for (unsigned block = 0; block < kBlocks; ++block) {
      if (random_.chance(0.5)) flight.blocks.push_back(block);
    }
    const std::size_t count = flight.blocks.size();
    flight.told.resize(count);
    flight.into.resize(count);
    for (std::size_t i = 0; i < count; ++i) {
      flight.into[i].assign(size_of(flight.blocks[i]), std::byte{0});
      items.push_back(whole(flight.blocks[i], flight.into[i]));
    }
    TransferOptions options = within(flight.timeout);
    options.on_item = [this, &flight](std::size_t item, const ItemOutcome& outcome) {
      EXPECT_FALSE(flight.told[item]) << "an item ended twice";
      flight.told[item] = true;
      if (outcome.ok) {
        EXPECT_TRUE(flight.into[item] == expected_[flight.blocks[item]]) << "S1: other bytes";
      }
      ++(outcome.ok ? sums_.ok : sums_.missed);
      std::fill(flight.into[item].begin(), flight.into[item].end(), kTaken);
    };
    data_loop_.spawn(
        put_into(core_->fetch(match_.state(), FetchList(items), std::move(options), flight.token),
                 flight.result));
  }

  void look() {
    for (Flight& flight : flights_) {
      if (!flight.result) {
        if (random_.chance(0.05)) flight.token->request();
        const Duration overdue = clock_.now() - flight.began - flight.timeout;
        EXPECT_LE(overdue, FetchExchange::kDrain + milliseconds(300)) << "it ends in time";
        continue;
      }
      if (!std::exchange(flight.seen, true)) {
        flight.ended = clock_.now();
        EXPECT_TRUE(std::ranges::all_of(flight.told, [](bool told) { return told; }));
        if (*flight.result) sums_.detours += (*flight.result)->detours;
      }
      if (clock_.now() - flight.ended < seconds(1)) expect_untouched(flight);
    }
  }

  void expect_untouched(const Flight& flight) const {
    for (const std::vector<std::byte>& memory : flight.into) {
      EXPECT_EQ(std::memcmp(memory.data(), taken_.data(), memory.size()), 0)
          << "S1: bytes landed after the report";
    }
  }

  void heal() {
    network_.heal_partitions();
    network_.set_faults({});
    for (FakeNode* node : nodes()) {
      const std::string name = "node" + std::to_string(node->entry().node.value);
      node->mood = Mood::serve;
      network_.resume(name);
      network_.slow_down(name, {});
    }
  }

  /// A fetch or two are probes; then everything is found where it is.
  void check_recovered() {
    std::size_t ok = 0;
    for (int attempt = 0; attempt < 4 && ok < kBlocks; ++attempt) {
      std::vector<std::vector<std::byte>> into;
      std::vector<FetchItem> items;
      for (unsigned block = 0; block < kBlocks; ++block) into.emplace_back(size_of(block));
      for (unsigned block = 0; block < kBlocks; ++block) items.push_back(whole(block, into[block]));
      const Result<TransferReport> report = fetch(match_, items);
      ASSERT_TRUE(report);
      ok = report->ok_count();
    }
    EXPECT_EQ(ok, kBlocks);
  }

  FakeNode node3_{network_, clock_, 3};
  SimRandom& random_;
  Sums& sums_;
  const std::vector<std::byte> taken_ = std::vector<std::byte>(60'000, kTaken);
  std::vector<std::vector<std::byte>> expected_;
  Match match_;
  std::list<Flight> flights_;
};

TEST(HedgeSchedules, DeliverTheRightBytesOrNoneAndNothingLate) {
  set_log_level(LogLevel::error);
  constexpr std::uint64_t kSchedules = 60;
  Sums sums;
  for (std::uint64_t seed = 1; seed <= kSchedules; ++seed) {
    {
      HedgeSchedule schedule(seed, sums);
      schedule.run();
    }
    ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed;
  }
  // Schedules in which nothing happens prove nothing.
  EXPECT_GT(sums.ok, 1000U);
  EXPECT_GT(sums.missed, 100U);
  EXPECT_GT(sums.late, 1000U);
  EXPECT_GT(sums.detours.hedged, 300U);
  EXPECT_GT(sums.detours.hedge_won, 50U);
  EXPECT_GT(sums.detours.hedged - sums.detours.hedge_won, 20U);
  EXPECT_GT(sums.detours.retried, 50U);
  EXPECT_GT(sums.detours.circuit_open, 50U);
  testing::Test::RecordProperty("hedged", static_cast<int>(sums.detours.hedged));
  testing::Test::RecordProperty("hedge_won", static_cast<int>(sums.detours.hedge_won));
}

}  // namespace
}  // namespace membrain::client_test
