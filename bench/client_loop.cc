// The control of bench/python_bench.py: the same calls on the same cluster, from C++.
//
//     client_loop SERVER BLOCK_BYTES BATCH ROUNDS LOOKUP_BLOCKS
//
// Stores BATCH blocks, fetches them ROUNDS times, looks LOOKUP_BLOCKS hashes up ROUNDS times, and
// prints the medians as JSON: {"fetch_us": .., "lookup_us": ..}.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "membrain/client.h"

namespace membrain {
namespace {

using Buffer = std::vector<std::byte>;

BlockHash hash_of(std::uint64_t number) {
  std::array<std::byte, 32> bytes{};
  std::memcpy(bytes.data(), &number, sizeof number);
  bytes[31] = std::byte{0xc0};  // not Python's
  return BlockHash::from(bytes).value();
}

double median_us(int rounds, const std::function<void()>& work) {
  std::vector<double> times;
  for (int round = 0; round < rounds; ++round) {
    const auto begun = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begun;
    times.push_back(took.count());
  }
  std::nth_element(times.begin(), times.begin() + rounds / 2, times.end());
  return times[static_cast<std::size_t>(rounds) / 2];
}

void require(bool fine, const char* what) {
  if (fine) return;
  std::fprintf(stderr, "client_loop: %s\n", what);
  std::exit(1);
}

struct Loop {
  std::unique_ptr<Client> client;
  OpenedNamespace space;
  std::vector<BlockHash> hashes;

  void store(const std::vector<Buffer>& blocks) const {
    std::vector<StoreItem> items(blocks.size());
    for (std::size_t i = 0; i < items.size(); ++i) {
      items[i].hash = hashes[i];
      items[i].from = {{blocks[i].data(), blocks[i].size()}};
    }
    const auto report = client->store(space, items);
    require(report && report->ok_count() == items.size(), "the blocks could not be stored");
  }
  double fetch(std::vector<Buffer>& blocks, int rounds) const {
    const Match match = client->lookup(space, hashes).value();
    std::vector<FetchItem> items(blocks.size());
    for (std::size_t i = 0; i < items.size(); ++i) {
      items[i].block = static_cast<std::uint32_t>(i);
      items[i].into = {{blocks[i].data(), blocks[i].size()}};
    }
    return median_us(rounds, [&] {
      const auto report = client->fetch(match, items);
      require(report && report->ok_count() == items.size(), "a fetch failed");
    });
  }
  double lookup(std::size_t count, int rounds) const {
    std::vector<BlockHash> wanted;
    for (std::size_t i = 0; i < count; ++i) wanted.push_back(hashes[i % hashes.size()]);
    return median_us(rounds, [&] {
      const auto match = client->lookup(space, wanted);
      require(match && match->prefix_blocks() == count, "a lookup failed");
    });
  }
};

int run(std::span<char*> words) {
  require(words.size() == 6, "usage: SERVER BLOCK_BYTES BATCH ROUNDS LOOKUP_BLOCKS");
  const auto number = [&words](std::size_t at) { return std::strtoull(words[at], nullptr, 10); };
  ClientConfig config;
  config.server = words[1];
  Loop loop;
  auto client = Client::open(config);
  require(client.has_value(), "no server there");
  loop.client = std::move(*client);
  Namespace space;
  space.model = "python bench";
  loop.space = loop.client->open_namespace(space).value();
  for (std::uint64_t i = 0; i < number(3); ++i) loop.hashes.push_back(hash_of(i));
  std::vector<Buffer> blocks(number(3), Buffer(number(2), std::byte{0x5a}));
  loop.store(blocks);
  const int rounds = static_cast<int>(number(4));
  const double fetch = loop.fetch(blocks, rounds);
  std::printf("{\"fetch_us\": %.1f, \"lookup_us\": %.1f}\n", fetch, loop.lookup(number(5), rounds));
  return 0;
}

}  // namespace
}  // namespace membrain

int main(int count, char** words) {
  return membrain::run({words, static_cast<std::size_t>(count)});
}
