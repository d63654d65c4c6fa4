#include "cache/node/space_watch.h"

#include <algorithm>
#include <utility>

#include "cache/node/need_shares.h"

namespace membrain {

SpaceWatch::SpaceWatch(Loop& loop, BlockTable& table, Announcers& announcers)
    : loop_(loop), table_(table), announcers_(announcers), again_(loop, [this] { look(); }) {}

void SpaceWatch::asked(std::uint32_t length) {
  if (table_.pool().low(length)) look();
}

void SpaceWatch::look() {
  const auto live = [](const Announcer& shard) { return shard.live(); };
  if (stopped_ || !asked_.empty() || std::ranges::none_of(announcers_.all(), live)) return;
  if (loop_.now() < not_before_) {
    if (!again_.armed()) again_.arm(not_before_);
    return;
  }
  const std::vector<Need> needs = table_.pool().needs();
  if (!needs.empty()) ask(needs);
}

void SpaceWatch::ask(const std::vector<Need>& needs) {
  std::vector<LinkId> links;
  std::vector<NeedShare> shares;
  for (const Announcer& shard : announcers_.all()) {
    if (!shard.live()) continue;
    links.push_back(shard.link());
    const bool gave_less = std::ranges::find(gave_less_, shard.link().shard) != gave_less_.end();
    shares.push_back({shard.range(), !gave_less});
  }
  const auto counts = [](const NeedShare& share) { return share.counts; };
  if (std::ranges::none_of(shares, counts)) {
    for (NeedShare& share : shares) share.counts = true;
  }
  gave_less_.clear();
  given_ = 0;
  const auto key_of = [this](const wire::SlotRef& at) { return table_.key_of(at); };
  std::vector<std::vector<Need>> asked = share_needs(needs, shares, turn_++, key_of);
  for (std::size_t i = 0; i < links.size(); ++i) {
    if (asked[i].empty()) continue;
    std::size_t count = 0;
    for (const Need& need : asked[i]) count += need.count;
    if (announcers_.need(links[i], std::move(asked[i]))) asked_.push_back({links[i], count});
  }
  if (asked_.empty()) not_before_ = loop_.now() + kAfterNone;
}

void SpaceWatch::answered(LinkId link, std::size_t slots) {
  const auto found = std::ranges::find(asked_, link, &Asked::link);
  if (found == asked_.end()) return;  // of a connection that is over
  given_ += slots;
  if (slots < found->count) gave_less_.push_back(link.shard);
  asked_.erase(found);
  if (asked_.empty()) all_answered();
}

void SpaceWatch::all_answered() {
  if (stopped_) return;
  not_before_ = loop_.now() + (given_ > 0 ? kAfterSome : kAfterNone);
  if (given_ > 0) again_.arm(not_before_);
}

void SpaceWatch::links_changed() {
  const bool waited = !asked_.empty();
  std::erase_if(asked_, [this](const Asked& asked) { return !announcers_.find(asked.link); });
  if (waited && asked_.empty()) all_answered();
  not_before_ = {};
}

void SpaceWatch::stop() {
  stopped_ = true;
  again_.cancel();
}

}  // namespace membrain
