#include "cache/client/fetch.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

namespace membrain {

/// The listener of one group's exchange: what came, and what is to be asked for elsewhere.
class Fetching::Round final : public FetchListener {
 public:
  explicit Round(Fetching& fetching) noexcept : fetching_(fetching) {}

  void on_target(const FetchTarget& target, const Result<>& outcome) override {
    if (outcome) {
      // Whoever compares what has landed on a GPU counts it.
      if (target.spot == nullptr || !target.spot->landed) bytes_ += target.length;
      return fetching_.end(target.item, {.ok = true});
    }
    const Errc why = outcome.error().code;
    fetching_.courses_[target.item].why = why;
    if (why == Errc::timed_out || why == Errc::cancelled) {
      return fetching_.end(target.item, {.why = why});
    }
    again_.push_back(target.item);
  }
  [[nodiscard]] std::span<const std::uint32_t> again() const noexcept { return again_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  Fetching& fetching_;
  std::vector<std::uint32_t> again_;
  std::uint64_t bytes_ = 0;
};

Fetching::Fetching(NodeLinks& links, FetchJob job)
    : links_(links),
      job_(std::move(job)),
      salt_(links.next_salt()),
      groups_(links.loop().ready()) {}

Task<Result<TransferReport>> Fetching::run() {
  const Result<> planned = plan();
  if (!planned) {
    groups_.finish({});
    co_return fail(planned.error());
  }
  if (job_.cancel) job_.cancel->on_request([this] { cancel(); });
  if (job_.cancel && job_.cancel->requested()) cancelled_ = true;
  std::vector<std::uint32_t> items(job_.items.size());
  std::iota(items.begin(), items.end(), 0U);
  launch(items);
  groups_.finish({});
  const Result<> ended = co_await groups_;
  if (job_.cancel) job_.cancel->on_request(nullptr);
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
void Fetching::launch(std::span<const std::uint32_t> items) {
  std::vector<Group> groups;
  for (const std::uint32_t item : items) {
    Course& course = courses_[item];
    course.group = choose(item) ? group_of(groups, course) : kNoGroup;
    if (course.group != kNoGroup) ++groups[course.group].count;
  }
  for (Group& group : groups) group.targets.reserve(group.count);
  for (const std::uint32_t item : items) {
    const std::size_t group = courses_[item].group;
    if (group != kNoGroup) groups[group].targets.push_back(target_of(item));
  }
  groups_.expect(static_cast<std::uint32_t>(groups.size()));
  for (Group& group : groups) links_.loop().spawn(serve(std::move(group)));
}

/// Notes the item's next replica; ends it, false, if there is none.
bool Fetching::choose(std::uint32_t item) {
  Course& course = courses_[item];
  std::array<NodeView, wire::kMaxReplicas> views;
  for (std::size_t i = 0; i < course.replicas.size(); ++i) {
    views[i] = links_.source(course.replicas[i].at.node);
  }
  const BlockKey& key = job_.match->keys[job_.items[item].block];
  const auto source =
      cancelled_ ? std::nullopt : choose_source(course.replicas, views, course.tried, key, salt_);
  if (!source) {
    const bool untried = course.tried == 0 && !course.replicas.empty();
    const Errc why = cancelled_ ? Errc::cancelled : untried ? Errc::peer_lost : course.why;
    end(item, {.why = why});
    return false;
  }
  course.tried = static_cast<TriedReplicas>(course.tried | 1U << *source);
  course.chosen = &course.replicas[*source];
  return true;
}

/// The group that takes one more item of this node and claim: the newest first, as neighbours tend
/// to go to the same one.
std::size_t Fetching::group_of(std::vector<Group>& groups, const Course& course) {
  const NodeId node = course.chosen->at.node;
  for (std::size_t i = groups.size(); i-- > 0;) {
    const Group& group = groups[i];
    const bool same = group.node == node && group.claim == course.claim;
    if (same && group.count < wire::kMaxFetchItems) return i;
  }
  groups.push_back({node, course.claim, 0, {}});
  return groups.size() - 1;
}

FetchTarget Fetching::target_of(std::uint32_t item) const {
  const WantedRange& asked = job_.items[item];
  const Course& course = courses_[item];
  FetchTarget target;
  target.item = item;
  target.key = job_.match->keys[asked.block];
  target.part = asked.part;
  target.at = course.chosen->at;
  target.offset = asked.offset;
  target.length = course.length;
  target.verify = job_.verify && target.length == target.at.length;
  target.into = asked.into;
  target.tier = course.chosen->tier;
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
Task<> Fetching::serve(Group group) {
  Round round(*this);
  const NodeId node = group.node;
  const std::size_t claim = group.claim;
  Task<std::vector<FetchTarget>> reading = read(std::move(group), round);
  std::vector<FetchTarget> rest = co_await reading;
  const std::uint64_t read_bytes = round.bytes();
  add_bytes(read_bytes, kWindowLane);
  if (!rest.empty()) {
    FetchExchange exchange(links_, terms_of(node, claim), std::move(rest), round);
    active_.push_back(&exchange);
    if (cancelled_) exchange.stop(Errc::cancelled);
    Task<> exchanged = exchange.run();
    co_await exchanged;
    std::erase(active_, &exchange);
    add_bytes(round.bytes() - read_bytes, exchange.lane());
  }
  launch(round.again());
  groups_.finish({});
}

/// Yields what the node has to be asked for.
Task<std::vector<FetchTarget>> Fetching::read(Group group, Round& round) {
  const FetchTerms terms = terms_of(group.node, group.claim);
  const auto window = job_.windows ? job_.windows->of(group.node, terms.proof) : nullptr;
  if (!window) co_return std::move(group.targets);
  WindowRead reading(links_, *job_.windows, window, terms, std::move(group.targets), round);
  reading_.push_back(&reading);
  Task<std::vector<FetchTarget>> running = reading.run();
  std::vector<FetchTarget> rest = co_await running;
  std::erase(reading_, &reading);
  co_return std::move(rest);
}

void Fetching::add_bytes(std::uint64_t bytes, std::string_view lane) {
  report_.bytes += bytes;
  if (bytes != 0) report_.lane_bytes[std::string(lane)] += bytes;
}

void Fetching::cancel() {
  cancelled_ = true;
  for (WindowRead* reading : reading_) reading->stop(Errc::cancelled);
  for (FetchExchange* exchange : active_) exchange->stop(Errc::cancelled);
}

void Fetching::end(std::size_t item, const ItemOutcome& outcome) {
  report_.items[item] = outcome;
  if (job_.options.on_item) job_.options.on_item(item, outcome);
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
  Fetching fetching(links, std::move(job));
  Task<Result<TransferReport>> running = fetching.run();
  co_return co_await running;
}

}  // namespace membrain
