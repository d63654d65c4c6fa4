#include "server/namespaces.h"

#include <algorithm>

#include "base/key.h"
#include "base/log.h"

namespace membrain {

SpaceIndex Namespaces::find(NamespaceId id) const noexcept {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? kNoSpace : found->second;
}

SpaceIndex Namespaces::find_or_add(NamespaceId id) {
  if (const SpaceIndex found = find(id); found != kNoSpace) return found;
  if (!id || spaces_.size() >= kMaxNamespaces) return kNoSpace;
  const auto index = static_cast<SpaceIndex>(spaces_.size());
  Space& space = spaces_.emplace_back();
  space.id = id;
  space.rule = standard_;
  const auto kept = eras_.find(id);
  space.era = kept == eras_.end() ? Era{1} : kept->second;
  by_id_.emplace(id, index);
  return index;
}

Result<Namespaces::Opened> Namespaces::open(const Digest& digest, const Digest& family,
                                            const std::string& tenant, const std::string& label) {
  Opened opened;
  opened.space = find_or_add(namespace_id(digest));
  if (opened.space == kNoSpace) return fail(Errc::out_of_capacity, "too many namespaces");
  Space& space = spaces_[opened.space];
  if (space.opened && (space.digest != digest || space.tenant != tenant)) {
    log(LogLevel::error, "namespace {:016x} of \"{}\" is not the one of \"{}\": refused",
        space.id.value, label, space.label);
    return fail(Errc::denied, "this namespace is another's");
  }
  const Space* other = nullptr;
  for (const Space& known : spaces_) {
    const bool sibling = known.opened && known.tenant == tenant && known.family == family;
    if (sibling && known.digest != digest) other = &known;
  }
  opened.other_seed = other != nullptr;
  if (other != nullptr && !space.opened) {
    log(LogLevel::warn,
        "\"{}\" and \"{}\" are the same model with different hash seeds: they share no block. "
        "Set the same PYTHONHASHSEED for every engine",
        label, other->label);
  }
  space.opened = true;
  space.digest = digest;
  space.family = family;
  space.tenant = tenant;
  space.label = label;
  return opened;
}

bool Namespaces::ask(SpaceIndex index, std::uint8_t replicas, wire::ZoneRule zones) {
  Space& space = spaces_[index];
  const ReplicaRule before = space.rule;
  if (replicas > 0) {
    const auto most = static_cast<std::uint8_t>(wire::kMaxReplicas);
    const std::uint8_t asked = std::min(replicas, most);
    space.rule.replicas = space.ruled ? std::max(space.rule.replicas, asked) : asked;
    space.ruled = true;
  }
  const bool spread = space.rule.zones == wire::ZoneRule::spread;
  if (zones != wire::ZoneRule::standard && !spread) space.rule.zones = zones;
  return space.rule != before;
}

Result<Era> Namespaces::era_after(SpaceIndex index, Era era) const {
  const Space& space = spaces_[index];
  if (era < space.era) return space.era;
  if (era != space.era) return fail(Errc::invalid_argument, "that era has not begun");
  return Era{era.value + 1};
}

bool Namespaces::begin_era(SpaceIndex index, Era era) {
  Space& space = spaces_[index];
  if (era <= space.era) return false;
  space.era = era;
  log(LogLevel::info, "namespace {:016x} \"{}\" was cleared: era {}", space.id.value, space.label,
      era.value);
  return true;
}

}  // namespace membrain
