#include "tools/workload.h"

#include <algorithm>
#include <cstddef>
#include <random>
#include <utility>

namespace membrain {
namespace {

/// All that was said so far, as blocks.
struct Conversation {
  std::vector<std::uint64_t> blocks;
  std::uint64_t tokens = 0;
};

/// Numbers by a rule of our own: the standard's distributions differ between libraries.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t between(std::uint64_t low, std::uint64_t high) {
    return low + engine_() % (high - low + 1);
  }

 private:
  std::mt19937_64 engine_;
};

class Writer {
 public:
  explicit Writer(const WorkloadConfig& config)
      : config_(config), dice_(config.seed), open_(std::max(1U, config.conversations)) {
    for (std::uint32_t kind = 0; kind < std::max(1U, config.system_prompts); ++kind) {
      Conversation prompt;
      say(prompt, dice_.between(2, 6) * kTraceBlockTokens);
      system_prompts_.push_back(std::move(prompt));
    }
    for (Conversation& conversation : open_) conversation = begin();
  }

  TraceRequest next() {
    Conversation& conversation = open_[dice_.between(0, open_.size() - 1)];
    if (dice_.between(1, std::max(1U, config_.turns)) == 1) conversation = begin();
    say(conversation, dice_.between(200, 3000));
    TraceRequest request;
    now_ms_ += dice_.between(10, 90);
    request.timestamp_ms = now_ms_;
    request.input_length = conversation.tokens;
    request.output_length = dice_.between(50, 600);
    request.hash_ids = conversation.blocks;
    say(conversation, request.output_length);
    return request;
  }

 private:
  Conversation begin() { return system_prompts_[dice_.between(0, system_prompts_.size() - 1)]; }

  /// More tokens change the last block unless it was full: a block's name covers its tokens.
  void say(Conversation& conversation, std::uint64_t tokens) {
    conversation.blocks.resize(conversation.tokens / kTraceBlockTokens);
    conversation.tokens += tokens;
    const std::uint64_t blocks = (conversation.tokens + kTraceBlockTokens - 1) / kTraceBlockTokens;
    while (conversation.blocks.size() < blocks) conversation.blocks.push_back(next_id_++);
  }

  WorkloadConfig config_;
  Dice dice_;
  std::vector<Conversation> system_prompts_;
  std::vector<Conversation> open_;
  std::uint64_t next_id_ = 0;
  std::uint64_t now_ms_ = 0;
};

}  // namespace

std::vector<TraceRequest> make_workload(const WorkloadConfig& config) {
  Writer writer(config);
  std::vector<TraceRequest> requests;
  requests.reserve(config.requests);
  while (requests.size() < config.requests) requests.push_back(writer.next());
  return requests;
}

}  // namespace membrain
