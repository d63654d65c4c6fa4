#include "bench/soak.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <optional>
#include <vector>

#include "bench/local_cluster.h"
#include "bench/page_memory.h"

namespace membrain {

namespace {

using Steady = std::chrono::steady_clock;

constexpr std::size_t kBlocks = 64;  ///< of one round
constexpr std::size_t kSmallBytes = 16 << 10;
constexpr std::size_t kLargeBytes = 512 << 10;
constexpr std::size_t kArenaBytes = std::size_t{128} << 20;

std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t pages = 0;
  std::size_t resident = 0;
  file >> pages >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

/// One round: new blocks in, found again, fetched twice, given back.
class Rounds {
 public:
  Rounds() : cluster_(config()), memory_(kBlocks * kLargeBytes) {}

  bool run() {
    const std::size_t bytes = round_ % 2 == 0 ? kSmallBytes : kLargeBytes;
    const std::uint64_t first = 1 + round_++ * kBlocks;
    if (!cluster_.store(first, kBlocks, bytes)) return false;
    const Match match = cluster_.lookup(first, kBlocks);
    if (match.prefix_blocks() == 0) return false;
    std::vector<FetchItem> items(match.prefix_blocks());
    for (std::size_t i = 0; i < items.size(); ++i) {
      items[i].block = static_cast<std::uint32_t>(i);
      items[i].into = {{memory_.data() + i * bytes, bytes}};
    }
    return cluster_.fetch(match, items) && cluster_.fetch(match, items);
  }
  [[nodiscard]] std::uint64_t count() const noexcept { return round_; }

 private:
  static InProcessClusterConfig config() {
    InProcessClusterConfig config;
    config.transports = "tcp,self";
    config.capacity_bytes = kArenaBytes;
    return config;
  }

  InProcessCluster cluster_;
  PageMemory memory_;
  std::uint64_t round_ = 0;
};

}  // namespace

bool soak(const SoakConfig& config) {
  Rounds rounds;
  const Steady::time_point begin = Steady::now();
  Steady::time_point report = begin + config.every;
  std::optional<std::size_t> warm;
  std::size_t most = 0;
  while (Steady::now() - begin < config.length) {
    if (!rounds.run()) {
      std::printf("soak: a round failed\n");
      return false;
    }
    if (Steady::now() < report) continue;
    report += config.every;
    const std::size_t resident = resident_bytes();
    const auto seconds = std::chrono::duration<double>(Steady::now() - begin).count();
    if (!warm && Steady::now() - begin >= config.warm_up) warm = resident;
    if (warm) most = std::max(most, resident);
    std::printf("soak: %6.0f s %8.1f MiB resident after %llu rounds of %zu blocks\n", seconds,
                static_cast<double>(resident) / (1 << 20),
                static_cast<unsigned long long>(rounds.count()), kBlocks);
    std::fflush(stdout);
  }
  const std::size_t growth = warm && most > *warm ? most - *warm : 0;
  const bool flat = warm && growth <= config.most_growth_bytes;
  std::printf("soak: grew by %.1f MiB after the warm-up, at most %.1f are allowed: %s\n",
              static_cast<double>(growth) / (1 << 20),
              static_cast<double>(config.most_growth_bytes) / (1 << 20), flat ? "flat" : "FAILED");
  return flat;
}

}  // namespace membrain
