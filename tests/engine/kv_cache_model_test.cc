// Random calls of a KvCacheManager against a model that knows what is in every block.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "membrain/kv_cache_manager.h"

namespace membrain {
namespace {

/// A prompt is the numbers of its blocks; a hash is that of a block and all before it.
using Prompt = std::vector<std::uint32_t>;

std::vector<BlockHash> hashes_of(const Prompt& prompt) {
  std::vector<BlockHash> hashes;
  std::uint64_t chain = 1;
  for (const std::uint32_t number : prompt) {
    chain = chain * 6364136223846793005U + number + 1;
    std::array<std::byte, 16> bytes{};
    std::memcpy(bytes.data(), &chain, sizeof chain);
    hashes.push_back(BlockHash::from(bytes).value());
  }
  return hashes;
}

class Schedule {
 public:
  explicit Schedule(std::uint32_t seed)
      : random_(seed),
        blocks_(4 + pick(28)),
        manager_(KvCacheManager::create(blocks_).value()),
        content_(blocks_) {}

  void run() {
    for (int step = 0; step < 200 && !::testing::Test::HasFailure(); ++step) {
      act();
      check_all();
    }
    while (!running_.empty()) end(running_.begin()->first);
    EXPECT_EQ(manager_.use().used_blocks, 0U);
    EXPECT_EQ(manager_.use().requests, 0U);
  }

 private:
  struct Running {
    Prompt prompt;
    std::vector<BlockHash> hashes;
    std::size_t computed = 0;
    std::size_t published = 0;
    bool old = false;  ///< from before all was forgotten
  };

  std::uint32_t pick(std::uint32_t below) { return static_cast<std::uint32_t>(random_() % below); }

  void act() {
    const std::uint32_t what = pick(100);
    if (what < 35) {
      begin();
    } else if (what < 75 && !running_.empty()) {
      go_on(any());
    } else if (what < 98 && !running_.empty()) {
      end(any());
    } else if (what == 99) {
      manager_.forget();
      for (auto& [id, request] : running_) request.old = true;
    }
  }
  std::uint64_t any() {
    auto at = running_.begin();
    std::advance(at, pick(static_cast<std::uint32_t>(running_.size())));
    return at->first;
  }

  void begin() {
    Running request;
    const std::uint32_t length = 1 + pick(8);
    for (std::uint32_t i = 0; i < length; ++i) request.prompt.push_back(pick(2));
    request.hashes = hashes_of(request.prompt);
    const RequestId id{++last_};
    const std::size_t local = manager_.computed_blocks(request.hashes).local;
    const auto shared = manager_.allocate(id, request.hashes, length);
    if (!shared) {
      EXPECT_EQ(shared.error().code, Errc::out_of_capacity);
      return;
    }
    EXPECT_EQ(*shared, local);
    const auto blocks = manager_.blocks_of(id);
    for (std::size_t i = 0; i < *shared; ++i) {
      EXPECT_EQ(content_[blocks[i]], request.hashes[i]) << "another content than its name says";
    }
    request.computed = request.published = *shared;
    running_.emplace(id.value, request);
  }

  /// Writes the next block, and publishes what is written, sooner or later.
  void go_on(std::uint64_t number) {
    Running& request = running_.at(number);
    const auto blocks = manager_.blocks_of(RequestId{number});
    if (request.computed < request.prompt.size()) {
      content_[blocks[request.computed]] = request.hashes[request.computed];
      ++request.computed;
    }
    if (pick(2) == 0) {
      EXPECT_TRUE(
          manager_.publish(RequestId{number}, std::span(request.hashes).first(request.computed)));
      request.published = request.computed;
    }
  }

  void end(std::uint64_t number) {
    EXPECT_TRUE(manager_.free(RequestId{number}));
    running_.erase(number);
  }

  void check_all() {
    std::map<std::uint32_t, std::uint32_t> refs;
    for (const auto& [number, request] : running_) {
      const auto blocks = manager_.blocks_of(RequestId{number});
      ASSERT_EQ(blocks.size(), request.prompt.size());
      for (std::size_t i = 0; i < blocks.size(); ++i) {
        ++refs[blocks[i]];
        if (i < request.computed) {
          ASSERT_EQ(content_[blocks[i]], request.hashes[i]) << "another request wrote into it";
        }
      }
      if (!request.old) {  // another's block of the same name may have been reused meanwhile
        const auto names = std::span(request.hashes).first(request.published);
        ASSERT_TRUE(manager_.publish(RequestId{number}, names));
        ASSERT_GE(manager_.computed_blocks(request.hashes).local, request.published);
      }
    }
    for (std::uint32_t block = 0; block < blocks_; ++block) {
      ASSERT_EQ(manager_.refcount(block), refs[block]);
    }
    ASSERT_EQ(manager_.use().used_blocks,
              std::ranges::count_if(refs, [](const auto& entry) { return entry.second > 0; }));
  }

  std::mt19937 random_;
  std::uint32_t blocks_;
  KvCacheManager manager_;
  std::vector<BlockHash> content_;
  std::map<std::uint64_t, Running> running_;
  std::uint64_t last_ = 0;
};

TEST(KvCacheModel, AgreesWithTheManagerWhateverIsCalled) {
  const char* one = std::getenv("MEMBRAIN_ENGINE_SEED");
  const std::uint32_t first = one ? static_cast<std::uint32_t>(std::atoi(one)) : 1;
  const std::uint32_t count = one ? 1 : 1000;
  for (std::uint32_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE("MEMBRAIN_ENGINE_SEED=" + std::to_string(seed));
    Schedule(seed).run();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace membrain
