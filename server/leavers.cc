#include "server/leavers.h"

namespace membrain {

Kept kept(const Catalog& catalog, const Nodes& nodes, const Entry& entry) noexcept {
  Kept count;
  for (Ref at = catalog.sound(entry.replicas); at != kNoRef;
       at = catalog.sound(catalog.replica(at).next)) {
    const Replica& replica = catalog.replica(at);
    if (replica.tier != Tier::host) continue;
    ++(nodes[replica.node].leaving ? count.leaving : count.staying);
  }
  return count;
}

void Leavers::changed() {
  any_ = false;
  for (NodeIndex i = 0; i < nodes_.end(); ++i) any_ = any_ || nodes_[i].leaving;
  counted_.clear();
  not_before_ = {};
  begin_walk();
}

void Leavers::begin_walk() {
  next_ = 0;
  counting_.assign(nodes_.end(), 0);
}

void Leavers::tick(TimePoint now) {
  if (!any_ || now < not_before_) return;
  const Ref end = catalog_.records().entries.end();
  for (std::size_t looked = 0; looked < kEntries && next_ < end; ++looked, ++next_) {
    count(catalog_.entry(next_));
  }
  if (next_ < end) return;
  counted_ = counting_;
  not_before_ = now + kPause;
  begin_walk();
}

void Leavers::count(const Entry& entry) {
  if (!entry.in_use() || entry.era != spaces_[entry.space].era) return;
  const Kept found = kept(catalog_, nodes_, entry);
  if (found.staying > 0 || found.leaving == 0) return;
  for (Ref at = catalog_.sound(entry.replicas); at != kNoRef;
       at = catalog_.sound(catalog_.replica(at).next)) {
    const Replica& replica = catalog_.replica(at);
    if (replica.tier == Tier::host && replica.node < counting_.size()) ++counting_[replica.node];
  }
}

}  // namespace membrain
