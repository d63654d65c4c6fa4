#include "cache/client/fetch.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

namespace membrain {

bool pieces_hold(std::span<const Piece> pieces, std::uint64_t length) noexcept {
  std::uint64_t bytes = 0;
  for (const Piece& piece : pieces) {
    if (piece.data == nullptr && piece.size != 0) return false;
    if (piece.size > length - bytes) return false;
    bytes += piece.size;
  }
  return bytes == length;
}

Fetching::Fetching(NodeLinks& links, FetchJob job)
    : links_(links), job_(std::move(job)), groups_(links.loop().ready()) {}

Task<Result<TransferReport>> Fetching::run() {
  const Result<> planned = plan();
  if (!planned) {
    groups_.finish({});
    co_return fail(planned.error());
  }
  if (job_.cancel) job_.cancel->on_request([this] { cancel(); });
  if (job_.cancel && job_.cancel->requested()) cancelled_ = true;
  std::vector<std::size_t> items(job_.items.size());
  for (std::size_t i = 0; i < items.size(); ++i) items[i] = i;
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
  chosen_.resize(job_.items.size());
  report_.items.resize(job_.items.size());
  for (std::size_t i = 0; i < job_.items.size(); ++i) {
    if (const Result<> fine = plan_item(i); !fine) return fine;
  }
  return {};
}

Result<> Fetching::plan_item(std::size_t item) {
  const FetchItem& asked = job_.items[item];
  const Match::State& match = *job_.match;
  if (asked.block >= match.keys.size() || asked.part >= match.parts) {
    return fail(Errc::invalid_argument, "a fetch of a block or part outside the match");
  }
  Course& course = courses_[item];
  const std::optional<std::size_t> claim = match.claim_of(asked.block);
  course.replicas = match.replicas_of(asked.block, asked.part);
  if (course.replicas.empty() || !claim) {
    course.replicas = {};
    return {};  // a miss
  }
  course.claim = *claim;
  const std::uint32_t whole = course.replicas.front().at.length;
  if (asked.offset >= whole || asked.length > whole - asked.offset) {
    return fail(Errc::invalid_argument, "a fetch of a range outside the block");
  }
  course.length = asked.length != 0 ? asked.length : whole - asked.offset;
  if (!pieces_hold(asked.into, course.length)) {
    return fail(Errc::invalid_argument, "pieces whose sizes do not add up to the range");
  }
  return {};
}

/// Sends every item to its best replica that was not tried, or ends it.
void Fetching::launch(const std::vector<std::size_t>& items) {
  std::map<std::pair<NodeId, std::size_t>, std::vector<std::size_t>> groups;
  for (const std::size_t item : items) {
    Course& course = courses_[item];
    std::array<NodeView, wire::kMaxReplicas> views;
    for (std::size_t i = 0; i < course.replicas.size(); ++i) {
      views[i] = links_.source(course.replicas[i].at.node);
    }
    const BlockKey& key = job_.match->keys[job_.items[item].block];
    const auto source =
        cancelled_ ? std::nullopt : choose_source(course.replicas, views, course.tried, key);
    if (!source) {
      const bool untried = course.tried == 0 && !course.replicas.empty();
      const Errc why = cancelled_ ? Errc::cancelled : untried ? Errc::peer_lost : course.why;
      end(item, {.why = why});
      continue;
    }
    course.tried = static_cast<TriedReplicas>(course.tried | 1U << *source);
    chosen_[item] = &course.replicas[*source];
    groups[{chosen_[item]->at.node, course.claim}].push_back(item);
  }
  for (const auto& [to, group] : groups) {
    for (std::size_t begin = 0; begin < group.size(); begin += wire::kMaxFetchItems) {
      const std::size_t count = std::min(wire::kMaxFetchItems, group.size() - begin);
      const auto portion = std::span(group).subspan(begin, count);
      groups_.expect();
      links_.loop().spawn(serve(to.first, to.second, {portion.begin(), portion.end()}));
    }
  }
}

FetchTarget Fetching::target_of(std::size_t item, const FoundReplica& replica) const {
  const FetchItem& asked = job_.items[item];
  FetchTarget target;
  target.item = item;
  target.key = job_.match->keys[asked.block];
  target.part = asked.part;
  target.at = replica.at;
  target.offset = asked.offset;
  target.length = courses_[item].length;
  target.verify = job_.verify && target.length == replica.at.length;
  target.into = Place(asked.into);
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

/// One group: asks its node, then sends what failed to the next replica.
Task<> Fetching::serve(NodeId node, std::size_t claim, std::vector<std::size_t> items) {
  std::vector<FetchTarget> targets;
  targets.reserve(items.size());
  for (const std::size_t item : items) targets.push_back(target_of(item, *chosen_[item]));
  std::vector<std::size_t> again;
  std::uint64_t bytes = 0;
  const auto on_target = [&](const FetchTarget& target, const Result<>& outcome) {
    if (outcome) {
      bytes += target.length;
      return end(target.item, {.ok = true});
    }
    const Errc why = outcome.error().code;
    courses_[target.item].why = why;
    if (why == Errc::timed_out || why == Errc::cancelled) {
      return end(target.item, {.why = why});
    }
    again.push_back(target.item);
  };
  FetchExchange exchange(links_, terms_of(node, claim), std::move(targets), on_target);
  const auto here = active_.insert(active_.end(), &exchange);
  Task<> exchanged = exchange.run();
  co_await exchanged;
  active_.erase(here);
  report_.bytes += bytes;
  if (bytes != 0) report_.lane_bytes[std::string(exchange.lane())] += bytes;
  launch(again);
  groups_.finish({});
}

void Fetching::cancel() {
  cancelled_ = true;
  for (FetchExchange* exchange : active_) exchange->stop(Errc::cancelled);
}

void Fetching::end(std::size_t item, const ItemOutcome& outcome) {
  report_.items[item] = outcome;
  if (job_.options.on_item) job_.options.on_item(item, outcome);
}

Task<Result<TransferReport>> fetch_blocks(NodeLinks& links, FetchJob job) {
  Fetching fetching(links, std::move(job));
  Task<Result<TransferReport>> running = fetching.run();
  co_return co_await running;
}

}  // namespace membrain
