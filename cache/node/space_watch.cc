#include "cache/node/space_watch.h"

#include <utility>
#include <vector>

namespace membrain {

SpaceWatch::SpaceWatch(Loop& loop, BlockTable& table, Announcer& announcer)
    : loop_(loop), table_(table), announcer_(announcer), again_(loop, [this] { look(); }) {}

void SpaceWatch::asked(std::uint32_t length) {
  if (table_.pool().low(length)) look();
}

void SpaceWatch::look() {
  if (stopped_ || asking_ || !announcer_.live()) return;
  if (loop_.now() < not_before_) {
    if (!again_.armed()) again_.arm(not_before_);
    return;
  }
  std::vector<Need> needs = table_.pool().needs();
  if (needs.empty()) return;
  asking_ = announcer_.need(std::move(needs));
}

void SpaceWatch::answered(std::size_t slots) {
  asking_ = false;
  if (stopped_) return;
  not_before_ = loop_.now() + (slots > 0 ? kAfterSome : kAfterNone);
  if (slots > 0) again_.arm(not_before_);
}

void SpaceWatch::reset() {
  asking_ = false;
  not_before_ = {};
}

void SpaceWatch::stop() {
  stopped_ = true;
  again_.cancel();
}

}  // namespace membrain
