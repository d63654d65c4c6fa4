#include "bench/lookup_load.h"

#include <random>
#include <utility>

#include "base/check.h"

namespace membrain {

namespace {
constexpr std::size_t kPrompts = 256;
}

LookupLoad::LookupLoad(const FilledServer& server, ClientConfig::Threads threads,
                       std::uint64_t seed) {
  ClientConfig config;
  config.server = server.address();
  config.secret = bench_secret();
  config.threads = threads;
  client_ = Client::open(config).value();
  space_ = client_->open_namespace(bench_namespace()).value();
  std::mt19937_64 random(seed);
  for (std::size_t i = 0; i < kPrompts; ++i) {
    std::vector<BlockHash>& prompt = prompts_.emplace_back();
    const std::uint64_t first = random() % server.prompts() * kPromptBlocks;
    for (std::uint64_t block = 0; block < kPromptBlocks; ++block) {
      prompt.push_back(bench_hash(first + block));
    }
  }
}

LookupLoad::~LookupLoad() {
  while (!under_way_.empty()) take_oldest();
}

void LookupLoad::begin(LookupOptions::Mode mode) {
  LookupOptions options;
  options.mode = mode;
  if (mode == LookupOptions::Mode::probe) options.rule = LookupOptions::Rule::all;
  under_way_.push_back(client_->lookup_async(space_, prompts_[next_], options));
  next_ = (next_ + 1) % kPrompts;
}

bool LookupLoad::oldest_done() const noexcept {
  return !under_way_.empty() && under_way_.front().done();
}

std::size_t LookupLoad::take_oldest() {
  Operation<Match> oldest = std::move(under_way_.front());
  under_way_.pop_front();
  const Result<Match> match = oldest.wait();
  check(match.has_value(), "a lookup failed");
  return match->prefix_blocks();
}

}  // namespace membrain
