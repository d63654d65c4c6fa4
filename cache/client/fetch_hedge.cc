// How a fetch deals with a node that is silent: a copy from elsewhere too, then instead.
#include <algorithm>
#include <cstring>
#include <utility>

#include "cache/client/fetch_rounds.h"

namespace membrain {

// ---- Round

void Fetching::Round::on_target(const FetchTarget& target, const Result<>& outcome) {
  LaneBook& lanes = fetching_.links_.lanes();
  lanes.ended(target.at.node, target.length);
  Course& course = fetching_.courses_[target.item];
  course.asked = nullptr;
  if (outcome) {
    // Whoever compares what has landed on a GPU counts it.
    if (target.spot == nullptr || !target.spot->landed) bytes_ += target.length;
    lanes.hedges().earn(static_cast<double>(target.length));
    return fetching_.end(target.item, {.ok = true});
  }
  course.why = outcome.error().code;
  if (course.why == Errc::cancelled) return fetching_.end(target.item, {.why = course.why});
  if (course.staged) return fetching_.deliver(target.item);
  if (fetching_.is_over(course.why)) return fetching_.end(target.item, {.why = course.why});
  if (course.hedge == nullptr) again_.push_back(target.item);  // else the hedge decides
}

// ---- HedgeRound

Fetching::HedgeRound::HedgeRound(Fetching& fetching, std::span<FetchTarget> targets)
    : fetching_(fetching), copies_(targets.size()), wanted_(targets.size()) {
  std::size_t bytes = 0;
  for (const FetchTarget& target : targets) bytes += target.length;
  memory_.reset(new std::byte[bytes]);
  std::byte* next = memory_.get();
  for (std::size_t i = 0; i < targets.size(); ++i) {
    copies_[i].memory = {next, targets[i].length};
    targets[i].into = Place(std::span<const Piece>(&copies_[i].memory, 1));
    Course& course = fetching_.courses_[targets[i].item];
    course.hedge = this;
    course.copy = &copies_[i];
    next += targets[i].length;
  }
}

void Fetching::HedgeRound::unwanted() noexcept {
  if (--wanted_ == 0 && exchange_ != nullptr) exchange_->stop_soon();
}

void Fetching::HedgeRound::on_target(const FetchTarget& target, const Result<>& outcome) {
  fetching_.links_.lanes().ended(target.at.node, target.length);
  Course& course = fetching_.courses_[target.item];
  if (course.ended) return;
  course.hedge = nullptr;
  unwanted();
  if (outcome) {
    fetching_.staged(target.item, exchange_->lane());
  } else if (course.asked == nullptr) {  // the first one has failed too
    course.why = outcome.error().code;
    if (fetching_.is_over(course.why)) return fetching_.end(target.item, {.why = course.why});
    again_.push_back(target.item);
  }
}

// ---- Watch

Fetching::Watch::Watch(Fetching& fetching, FetchExchange& exchange, NodeId node)
    : fetching_(fetching),
      exchange_(exchange),
      node_(node),
      timer_(fetching.links_.loop(), [this] { look(); }) {
  const bool choice = std::ranges::any_of(exchange.targets(), [&](const FetchTarget& target) {
    return fetching.courses_[target.item].replicas.size() > 1;
  });
  if (!choice) return;
  const LaneModel& lane = fetching.links_.lanes().lane(node);
  timer_.arm(exchange.last_sign() + lane.hedge_after(0).value_or(LaneModel::kUnknownHedge));
}

void Fetching::Watch::look() {
  if (exchange_.stopped()) return;
  const TimePoint now = fetching_.links_.loop().now();
  const LaneModel& lane = fetching_.links_.lanes().lane(node_);
  const std::uint64_t receiving = exchange_.receiving_bytes();
  const std::optional<Duration> hedge_after = lane.hedge_after(receiving);
  const std::optional<Duration> patience = lane.patience(receiving);
  if (!hedge_after || !patience) return timer_.arm(now + LaneModel::kUnknownHedge);
  const Duration silence = now - exchange_.last_sign();
  if (exchange_.all_aside() && lane.too_quiet(silence)) {
    gave_up_ = true;
    return exchange_.stop(Errc::cancelled);
  }
  if (silence >= *patience && fetching_.could_move(exchange_)) {
    gave_up_ = true;
    return exchange_.stop(Errc::peer_lost);
  }
  if (silence >= *hedge_after) fetching_.hedge(exchange_);
  const Duration next = silence < *hedge_after ? *hedge_after
                        : silence < *patience  ? *patience
                                               : silence + *patience;
  timer_.arm(exchange_.last_sign() + next);
}

// ---- hedging

/// The best replica besides those that were tried whose lane is beyond doubt.
std::optional<std::size_t> Fetching::other_source(std::uint32_t item) const {
  const Course& course = courses_[item];
  Views views;
  look_at(course, views);
  const TimePoint now = links_.loop().now();
  for (std::size_t i = 0; i < course.replicas.size(); ++i) {
    const LaneModel* const lane = links_.lanes().find(course.replicas[i].at.node);
    const bool closed = lane == nullptr || lane->breaker().state(now) == Breaker::State::closed;
    if (!closed || views[i].doubted) views[i].avoided = true;
  }
  return best_of(item, views);
}

bool Fetching::could_move(const FetchExchange& exchange) const {
  for (std::uint32_t tag = 0; tag < exchange.targets().size(); ++tag) {
    if (exchange.idle(tag) && other_source(exchange.targets()[tag].item)) return true;
  }
  return false;
}

/// Fetches what an exchange waits for from elsewhere too, as far as the budget goes.
void Fetching::hedge(const FetchExchange& exchange) {
  LaneBook& lanes = links_.lanes();
  std::vector<Group> groups;
  for (std::uint32_t tag = 0; tag < exchange.targets().size(); ++tag) {
    const std::uint32_t item = exchange.targets()[tag].item;
    Course& course = courses_[item];
    // What may land on a GPU has one way there only: no copy can take its place.
    const bool straight = exchange.targets()[tag].spot != nullptr;
    if (!exchange.idle(tag) || course.copy != nullptr || straight) continue;
    const std::optional<std::size_t> source = other_source(item);
    if (!source) continue;
    if (!lanes.take_staging(course.length)) break;
    if (!lanes.hedges().spend(course.length, links_.loop().now())) {
      lanes.give_staging(course.length);
      break;
    }
    staged_bytes_ += course.length;
    course.tried = static_cast<TriedReplicas>(course.tried | 1U << *source);
    const FoundReplica& replica = course.replicas[*source];
    lanes.began(replica.at.node, course.length);
    Group& group = groups[group_of(groups, replica.at.node, course.claim)];
    ++group.count;
    group.targets.push_back(target_of(item, replica));
    ++report_.detours.hedged;
  }
  for (Group& group : groups) {
    hedges_.push_back(std::make_unique<HedgeRound>(*this, group.targets));
    links_.loop().spawn(serve_hedge(shared_from_this(), std::move(group), *hedges_.back()));
  }
}

Task<> Fetching::serve_hedge(std::shared_ptr<Fetching> self, Group group, HedgeRound& round) {
  const NodeLinks::Work work(links_);
  const std::shared_ptr<Fetching> alive = std::move(self);  // let go of before `work`
  const NodeId node = group.node;
  FetchExchange exchange(links_, terms_of(node, group.claim), std::move(group.targets), round);
  round.attach(exchange);
  hedging_.push_back(&exchange);
  if (cancelled_ || !round.wanted()) exchange.stop(Errc::cancelled);
  Task<> exchanged = exchange.run();
  co_await exchanged;
  std::erase(hedging_, &exchange);
  round.detach();
  judge(exchange, node, {}, false);
  if (!round.again().empty()) launch(round.again(), Cause::failure);
}

/// A copy is whole. It is the caller's, unless the other one has begun to land.
void Fetching::staged(std::uint32_t item, std::string_view lane) {
  Course& course = courses_[item];
  course.staged = true;
  course.copy->lane = lane;
  if (course.asked != nullptr) {
    const Place aside(std::span<const Piece>(&course.copy->memory, 1));
    if (!course.asked->set_aside(course.tag, aside)) return;
    links_.lanes().ended(course.chosen->at.node, course.length);
    course.asked = nullptr;
  }
  deliver(item);
}

/// From here on nothing else can land in the item's place: what is late lands in the copy's.
void Fetching::deliver(std::uint32_t item) {
  const Course& course = courses_[item];
  const auto* from = static_cast<const std::byte*>(course.copy->memory.data);
  job_.items[item].into.for_each_piece([&](std::byte* into, std::size_t size) {
    std::memcpy(into, from, size);
    from += size;
  });
  ++report_.detours.hedge_won;
  links_.lanes().hedges().earn(static_cast<double>(course.length));
  add_bytes(course.length, course.copy->lane);
  end(item, {.ok = true});
}

/// A node was given up for the sake of some of its blocks: those that are nowhere else are worth
/// another try there.
void Fetching::ask_there_again(std::span<const std::uint32_t> items) {
  for (const std::uint32_t item : items) {
    Course& course = courses_[item];
    if (other_source(item)) continue;
    const auto index = static_cast<std::size_t>(course.chosen - course.replicas.data());
    course.tried = static_cast<TriedReplicas>(course.tried & ~(1U << index));
  }
}

}  // namespace membrain
