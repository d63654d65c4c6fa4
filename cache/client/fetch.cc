#include "cache/client/fetch.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "cache/client/fetch_rounds.h"

namespace membrain {

Fetching::Fetching(NodeLinks& links, FetchJob job)
    : links_(links), job_(std::move(job)), salt_(links.next_salt()), items_(links.loop().ready()) {}

Fetching::~Fetching() {
  links_.lanes().give_staging(staged_bytes_);
}

Task<Result<TransferReport>> Fetching::run() {
  const Result<> planned = plan();
  if (!planned) {
    items_.finish({});
    co_return fail(planned.error());
  }
  if (job_.cancel) job_.cancel->on_request([this] { cancel(); });
  if (job_.cancel && job_.cancel->requested()) cancelled_ = true;
  std::vector<std::uint32_t> items(job_.items.size());
  std::iota(items.begin(), items.end(), 0U);
  items_.expect(static_cast<std::uint32_t>(items.size()));
  launch(items, Cause::first);
  items_.finish({});
  const Result<> ended = co_await items_;
  for (const Asking& asking : active_) {
    add_bytes(asking.round->take_bytes(), asking.exchange->lane());
  }
  for (const Reading& reading : reading_) add_bytes(reading.round->take_bytes(), kWindowLane);
  if (job_.cancel) job_.cancel->on_request(nullptr);
  job_.options.on_item = nullptr;  // what is being drained tells nobody
  if (!ended) co_return fail(ended.error());
  if (cancelled_) co_return fail(Errc::cancelled, "the fetch was taken back");
  co_return std::move(report_);
}

Result<> Fetching::plan() {
  if (!job_.match || job_.match->probe) {
    return fail(Errc::invalid_argument, "a probe pins nothing: nothing can be fetched from it");
  }
  courses_.resize(job_.items.size());
  report_.items.resize(job_.items.size());
  for (std::size_t i = 0; i < job_.items.size(); ++i) {
    if (const Result<> fine = plan_item(i); !fine) return fine;
  }
  return {};
}

Result<> Fetching::plan_item(std::size_t item) {
  const WantedRange& asked = job_.items[item];
  const Match::State& match = *job_.match;
  const Result<std::uint32_t> length = wanted_bytes(match, asked);
  if (!length) return fail(length.error());
  if (*length == 0) return {};  // a miss
  Course& course = courses_[item];
  course.replicas = match.replicas_of(asked.block, asked.part);
  course.claim = *match.claim_of(asked.block);
  course.length = *length;
  return {};
}

/// Sends every item to its best replica that was not tried, or ends it.
void Fetching::launch(std::span<const std::uint32_t> items, Cause cause) {
  std::vector<Group> groups;
  for (const std::uint32_t item : items) {
    if (choose(item, groups) && cause != Cause::first) ++report_.detours.retried;
  }
  for (std::size_t i = 0; i < groups.size() && cause == Cause::failure; ++i) {
    if (!links_.lanes().retries().spend(1, links_.loop().now())) drop(items, groups[i], i);
  }
  for (Group& group : groups) group.targets.reserve(group.count);
  for (const std::uint32_t item : items) {
    const Course& course = courses_[item];
    if (course.group == kNoGroup) continue;
    groups[course.group].targets.push_back(target_of(item, *course.chosen));
  }
  for (Group& group : groups) {
    if (group.count != 0) links_.loop().spawn(serve(shared_from_this(), std::move(group)));
  }
}

void Fetching::look_at(const Course& course, Views& views) const {
  for (std::size_t i = 0; i < course.replicas.size(); ++i) {
    views[i] = links_.source(course.replicas[i].at.node, course.length);
  }
}

std::optional<std::size_t> Fetching::best_of(std::uint32_t item, const Views& views) const {
  const Course& course = courses_[item];
  const BlockKey& key = job_.match->keys[job_.items[item].block];
  return choose_source(course.replicas, views, course.tried, key, salt_);
}

/// Notes the item's next replica and its group; ends it, false, if there is none.
bool Fetching::choose(std::uint32_t item, std::vector<Group>& groups) {
  Course& course = courses_[item];
  course.group = kNoGroup;
  Views views;
  look_at(course, views);
  const auto source = cancelled_ ? std::nullopt : best_of(item, views);
  if (!source) {
    const bool untried = course.tried == 0 && !course.replicas.empty();
    const Errc why = cancelled_ ? Errc::cancelled : untried ? Errc::peer_lost : course.why;
    for (std::size_t i = 0; i < course.replicas.size() && !cancelled_; ++i) {
      if ((course.tried >> i & 1U) != 0 || !views[i].avoided) continue;
      ++report_.detours.circuit_open;
      break;
    }
    end(item, {.why = why});
    return false;
  }
  course.tried = static_cast<TriedReplicas>(course.tried | 1U << *source);
  course.chosen = &course.replicas[*source];
  const NodeId node = course.chosen->at.node;
  course.group = group_of(groups, node, course.claim);
  Group& group = groups[course.group];
  const Breaker::Pass pass = links_.lanes().lane(node).breaker().enter(links_.loop().now());
  if (group.count++ == 0) group.pass = pass;
  links_.lanes().began(node, course.length);
  return true;
}

/// The budget for retries is spent: a group of them ends.
void Fetching::drop(std::span<const std::uint32_t> items, Group& group, std::size_t index) {
  links_.lanes().lane(group.node).breaker().give_back(group.pass);
  group.count = 0;
  for (const std::uint32_t item : items) {
    Course& course = courses_[item];
    if (course.group != index) continue;
    course.group = kNoGroup;
    links_.lanes().ended(group.node, course.length);
    --report_.detours.retried;
    ++report_.detours.withheld;
    end(item, {.why = course.why});
  }
}

/// The group that takes one more item of this node and claim: the newest first, as neighbours tend
/// to go to the same one.
std::size_t Fetching::group_of(std::vector<Group>& groups, NodeId node, std::size_t claim) {
  for (std::size_t i = groups.size(); i-- > 0;) {
    const Group& group = groups[i];
    const bool same = group.node == node && group.claim == claim;
    if (same && group.count < wire::kMaxFetchItems) return i;
  }
  groups.push_back({node, claim, {}, 0, {}});
  return groups.size() - 1;
}

FetchTarget Fetching::target_of(std::uint32_t item, const FoundReplica& source) const {
  const WantedRange& asked = job_.items[item];
  const Course& course = courses_[item];
  FetchTarget target;
  target.item = item;
  target.key = job_.match->keys[asked.block];
  target.part = asked.part;
  target.at = source.at;
  target.offset = asked.offset;
  target.length = course.length;
  target.verify = job_.verify && target.length == target.at.length;
  target.into = asked.into;
  target.tier = source.tier;
  target.spot = asked.spot;
  return target;
}

FetchTerms Fetching::terms_of(NodeId node, std::size_t claim) const {
  FetchTerms terms;
  terms.node = node;
  terms.space = job_.match->space;
  terms.proof = job_.match->claims[claim].granted.value_or(job_.proof);
  terms.deadline = job_.deadline;
  terms.window = job_.window;
  return terms;
}

/// One group: reads what the node's window has, asks for the rest, then sends what failed to the
/// next replica.
Task<> Fetching::serve(std::shared_ptr<Fetching> self, Group group) {
  const NodeLinks::Work work(links_);
  const std::shared_ptr<Fetching> alive = std::move(self);  // let go of before `work`
  Round round(*this);
  FetchTerms terms = terms_of(group.node, group.claim);
  const Breaker::Pass pass = group.pass;
  Task<std::vector<FetchTarget>> reading = read(std::move(group), round);
  std::vector<FetchTarget> rest = co_await reading;
  Cause cause = Cause::answer;
  if (rest.empty()) {
    links_.lanes().lane(terms.node).breaker().give_back(pass);
  } else {
    Task<Cause> asking = ask(std::move(terms), pass, std::move(rest), round);
    cause = co_await asking;
  }
  if (!round.again().empty()) launch(round.again(), cause);
}

/// Yields what the node has to be asked for.
Task<std::vector<FetchTarget>> Fetching::read(Group group, Round& round) {
  const FetchTerms terms = terms_of(group.node, group.claim);
  const auto window = job_.windows ? job_.windows->of(group.node, terms.proof) : nullptr;
  if (!window) co_return std::move(group.targets);
  LaneBook& lanes = links_.lanes();
  const TimePoint began = links_.loop().now();
  if (!lanes.lane(terms.node, Path::window).breaker().admits(began)) {
    co_return std::move(group.targets);
  }
  const Breaker::Pass pass = lanes.lane(terms.node, Path::window).breaker().enter(began);
  WindowRead reading(links_, *job_.windows, window, terms, std::move(group.targets), round);
  reading_.push_back({&reading, &round});
  Task<std::vector<FetchTarget>> running = reading.run();
  std::vector<FetchTarget> rest = co_await running;
  std::erase_if(reading_, [&](const Reading& one) { return one.read == &reading; });
  add_bytes(round.take_bytes(), kWindowLane);
  Breaker& breaker = lanes.lane(terms.node, Path::window).breaker();
  if (reading.failed()) {
    lanes.failed(terms.node, links_.loop().now(), pass, Path::window);
  } else if (reading.answered()) {
    breaker.succeeded();
  } else {
    breaker.give_back(pass);
  }
  co_return std::move(rest);
}

/// Yields why what has failed is to be sent elsewhere.
Task<Fetching::Cause> Fetching::ask(FetchTerms terms, Breaker::Pass pass,
                                    std::vector<FetchTarget> targets, Round& round) {
  const NodeId node = terms.node;
  FetchExchange exchange(links_, std::move(terms), std::move(targets), round);
  for (std::uint32_t tag = 0; tag < exchange.targets().size(); ++tag) {
    Course& course = courses_[exchange.targets()[tag].item];
    course.asked = &exchange;
    course.tag = tag;
  }
  active_.push_back({&exchange, &round});
  if (cancelled_) exchange.stop(Errc::cancelled);
  Watch watch(*this, exchange, node);
  Task<> exchanged = exchange.run();
  co_await exchanged;
  std::erase_if(active_, [&](const Asking& asking) { return asking.exchange == &exchange; });
  add_bytes(round.take_bytes(), exchange.lane());
  judge(exchange, node, pass, watch.gave_up());
  if (watch.gave_up()) ask_there_again(round.again());
  const bool failed = watch.gave_up() || exchange.lost() || !exchange.answered();
  co_return failed ? Cause::failure : Cause::answer;
}

/// What an exchange says of its lane, besides what it has noted itself.
void Fetching::judge(const FetchExchange& exchange, NodeId node, Breaker::Pass pass, bool gave_up) {
  LaneBook& lanes = links_.lanes();
  LaneModel& lane = lanes.lane(node);
  if (exchange.answered()) lanes.retries().earn(1);
  if (gave_up || lane.too_quiet(exchange.silence())) {
    lanes.failed(node, links_.loop().now(), pass);
  } else {
    lane.breaker().give_back(pass);  // if there was no answer
  }
}

void Fetching::add_bytes(std::uint64_t bytes, std::string_view lane) {
  report_.bytes += bytes;
  if (bytes != 0) report_.lane_bytes[std::string(lane)] += bytes;
}

void Fetching::cancel() {
  cancelled_ = true;
  for (const Reading& reading : reading_) reading.read->stop(Errc::cancelled);
  for (const Asking& asking : active_) asking.exchange->stop(Errc::cancelled);
  for (FetchExchange* exchange : hedging_) exchange->stop(Errc::cancelled);
}

void Fetching::end(std::uint32_t item, const ItemOutcome& outcome) {
  Course& course = courses_[item];
  check(!course.ended, "an item of a fetch ended twice");
  course.ended = true;
  if (course.hedge != nullptr) std::exchange(course.hedge, nullptr)->unwanted();
  report_.items[item] = outcome;
  if (job_.options.on_item) job_.options.on_item(item, outcome);
  items_.finish({});
}

Result<std::uint32_t> wanted_bytes(const Match::State& match, const WantedRange& asked) noexcept {
  if (asked.block >= match.keys.size() || asked.part >= match.parts) {
    return fail(Errc::invalid_argument, "a fetch of a block or part outside the match");
  }
  const std::span<const FoundReplica> replicas = match.replicas_of(asked.block, asked.part);
  if (replicas.empty() || !match.claim_of(asked.block)) return 0;
  const std::uint32_t whole = replicas.front().at.length;
  if (asked.offset >= whole || asked.length > whole - asked.offset) {
    return fail(Errc::invalid_argument, "a fetch of a range outside the block");
  }
  const std::uint32_t length = asked.length != 0 ? asked.length : whole - asked.offset;
  if (!asked.sound || asked.into.size_bytes() != length) {
    return fail(Errc::invalid_argument, "pieces whose sizes do not add up to the range");
  }
  return length;
}

Task<Result<TransferReport>> fetch_blocks(NodeLinks& links, FetchJob job) {
  const auto fetching = std::make_shared<Fetching>(links, std::move(job));
  Task<Result<TransferReport>> running = fetching->run();
  co_return co_await running;
}

}  // namespace membrain
