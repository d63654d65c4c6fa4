#include "tools/provenance.h"

namespace membrain {

void Provenance::stored(std::size_t engine, std::span<const std::uint64_t> hash_ids) {
  for (const std::uint64_t id : hash_ids) {
    const auto [place, fresh] = owner_.emplace(id, engine);
    if (!fresh && place->second != engine) place->second = kSeveral;
  }
}

void Provenance::hit(std::size_t engine, std::span<const std::uint64_t> hash_ids) {
  for (const std::uint64_t id : hash_ids) hits_.emplace_back(id, engine);
}

std::uint64_t Provenance::hits_across() const {
  std::uint64_t count = 0;
  for (const auto& [id, engine] : hits_) {
    const auto owner = owner_.find(id);
    if (owner != owner_.end() && owner->second != kSeveral && owner->second != engine) ++count;
  }
  return count;
}

}  // namespace membrain
