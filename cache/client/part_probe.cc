#include "cache/client/part_probe.h"

#include <utility>

namespace membrain {

PartProbe::PartProbe(ReadyQueue& ready, NamespaceId space, Era era,
                     const std::vector<wire::PartName>& parts)
    : answers_((parts.size() + wire::kMaxKeys - 1) / wire::kMaxKeys),
      answered_(ready, static_cast<std::uint32_t>(answers_.size())) {
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i % wire::kMaxKeys == 0) {
      asked_.emplace_back();
      asked_.back().space = space;
      asked_.back().era = era;
    }
    asked_.back().parts.push_back(parts[i]);
  }
}

void PartProbe::ask(const AskParts& shard, TimePoint deadline) {
  for (std::size_t i = 0; i < asked_.size(); ++i) {
    shard(std::move(asked_[i]), deadline, answers_[i], answered_);
  }
}

bool PartProbe::known(std::size_t part) const noexcept {
  const wire::ProbedParts& answer = answers_[part / wire::kMaxKeys];
  const std::size_t bit = part % wire::kMaxKeys;
  return bit / 8 < answer.bitmap.size() && (answer.bitmap[bit / 8] >> (bit % 8) & 1U) != 0;
}

}  // namespace membrain
