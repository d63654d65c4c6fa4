#include "server/condemned.h"

namespace membrain {

void Condemned::add(const wire::SlotRef& at, std::uint32_t slot_bytes) {
  const auto [place, made] = slots_.try_emplace(at.slot);
  if (!made) --by_size_[place->second.slot_bytes];  // an older use, which the node has ended
  place->second = {at.generation, slot_bytes};
  ++by_size_[slot_bytes];
  untold_.push_back(at);
}

void Condemned::note_gone(const wire::SlotRef& at) {
  if (!at.generation) return;
  Gone& gone = gone_[at.slot];
  if (gone.generation >= at.generation) return;
  gone_by_word_.erase(gone.word);
  gone = {at.generation, ++last_word_};
  gone_by_word_.emplace(gone.word, at.slot);
  if (gone_.size() > kMaxGone) {
    const auto oldest = gone_by_word_.begin();
    gone_.erase(oldest->second);
    gone_by_word_.erase(oldest);
  }
}

bool Condemned::freed(const wire::SlotRef& at) {
  note_gone(at);
  const auto found = slots_.find(at.slot);
  if (found == slots_.end() || found->second.generation != at.generation) return false;
  --by_size_[found->second.slot_bytes];
  slots_.erase(found);
  return true;
}

bool Condemned::waits(const wire::SlotRef& at) const noexcept {
  const auto found = slots_.find(at.slot);
  return found != slots_.end() && found->second.generation == at.generation;
}

bool Condemned::knows(const wire::SlotRef& at) const noexcept {
  const auto waiting = slots_.find(at.slot);
  if (waiting != slots_.end() && at.generation <= waiting->second.generation) return true;
  const auto gone = gone_.find(at.slot);
  return gone != gone_.end() && at.generation <= gone->second.generation;
}

std::size_t Condemned::waiting(std::uint32_t slot_bytes) const noexcept {
  const auto found = by_size_.find(slot_bytes);
  return found == by_size_.end() ? 0 : found->second;
}

std::vector<wire::SlotRef> Condemned::untold(std::size_t max_count) {
  std::vector<wire::SlotRef> slots;
  while (!untold_.empty() && slots.size() < max_count) {
    const wire::SlotRef at = untold_.front();
    untold_.pop_front();
    if (!waits(at)) continue;
    slots.push_back(at);
    told_.push_back(at);
  }
  return slots;
}

std::vector<wire::SlotRef> Condemned::repeat(std::size_t max_count) {
  std::vector<wire::SlotRef> slots = untold(max_count);
  for (std::size_t looked = told_.size() - slots.size(); looked > 0; --looked) {
    if (slots.size() >= max_count) break;
    const wire::SlotRef at = told_.front();
    told_.pop_front();
    if (!waits(at)) continue;
    slots.push_back(at);
    told_.push_back(at);
  }
  return slots;
}

}  // namespace membrain
