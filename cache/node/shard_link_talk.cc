// The part of the shard link that carries what is said on a connection that is up.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "cache/node/shard_link.h"

namespace membrain {

namespace {

constexpr Duration kAskAgain = std::chrono::milliseconds(200);

}  // namespace

void ShardLink::publish(LinkId link, std::vector<wire::SlotEntry> entries) {
  if (!is_current(link)) return;  // the next report has them
  to_publish_.insert(to_publish_.end(), entries.begin(), entries.end());
  start_publishing();
}

void ShardLink::start_publishing() {
  if (!reported_ || to_publish_.empty() || publishing_ >= kPublishing) return;
  ++publishing_;
  loop_.spawn(publish_batches());
}

/// Publishes batch after batch, each until it is answered, as long as there are any.
Task<> ShardLink::publish_batches() {
  const Child child(*this);
  while (up() && !to_publish_.empty()) {
    wire::Publish batch;
    batch.node = config_.node;
    batch.incarnation = config_.incarnation;
    const auto count =
        static_cast<std::ptrdiff_t>(std::min(to_publish_.size(), wire::kMaxPublishItems));
    batch.items.assign(to_publish_.begin(), to_publish_.begin() + count);
    to_publish_.erase(to_publish_.begin(), to_publish_.begin() + count);
    for (bool answered = false; !answered && up();) {
      Task<Result<wire::Published>> calling =
          calls_.call<wire::Published>(peer_, batch, answer_deadline(), header());
      const Result<wire::Published> published = co_await calling;
      if (published) {
        answered = true;
        settle(batch.items, published->statuses);
      } else {
        again(published.error());
      }
    }
  }
  --publishing_;
}

void ShardLink::settle(const std::vector<wire::SlotEntry>& entries,
                       const std::vector<wire::ItemStatus>& statuses) {
  if (statuses.size() != entries.size()) {
    return take_down({Errc::corrupt, 0, "an answer has another count of items"});
  }
  if (entries.empty()) return;
  std::vector<Verdict> verdicts;
  verdicts.reserve(entries.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    verdicts.push_back({{entries[i].slot, entries[i].generation}, statuses[i]});
  }
  static_cast<void>(slots_.post([link = link_, verdicts = std::move(verdicts)](SlotSide& slots) {
    slots.settled(link, verdicts);
  }));
}

void ShardLink::need(LinkId link, std::vector<Need> needs) {
  if (!is_current(link)) return;  // the data loop forgets its question with the connection
  loop_.spawn(ask(std::move(needs)));
}

Task<> ShardLink::ask(std::vector<Need> needs) {
  const Child child(*this);
  const LinkId link = link_;
  std::size_t slots = 0;
  for (std::size_t i = 0; i < needs.size() && up(); ++i) {
    wire::NeedSlots request;
    request.node = config_.node;
    request.incarnation = config_.incarnation;
    request.slot_bytes = needs[i].slot_bytes;
    request.count = needs[i].count;
    request.candidates = std::move(needs[i].candidates);
    Task<Result<wire::FreeSlots>> calling =
        calls_.call<wire::FreeSlots>(peer_, std::move(request), answer_deadline(), header());
    const Result<wire::FreeSlots> answer = co_await calling;
    if (answer) {
      slots += on_free(*answer);
    } else if (!again(answer.error())) {
      break;
    }
  }
  static_cast<void>(
      slots_.post([link, slots](SlotSide& side) { side.need_answered(link, slots); }));
}

/// Obeys only the shard that this node has joined, and only if it means this life.
template <class Message>
bool ShardLink::meant(const Message& message) {
  return message.epoch == epoch_ && message.node == config_.node &&
         message.incarnation == config_.incarnation;
}

/// Returns how many slots are to be freed.
std::size_t ShardLink::on_free(const wire::FreeSlots& message) {
  if (!meant(message)) {
    NodeCounters::add(counters_.fenced_frees);
    log(LogLevel::warn, "node {}: FreeSlots of epoch {} refused: it is {}", config_.node.value,
        message.epoch.value, epoch_.value);
    return 0;
  }
  if (message.items.empty()) return 0;
  static_cast<void>(slots_.post([link = link_, epoch = epoch_, items = message.items](
                                    SlotSide& slots) { slots.free(link, epoch, items); }));
  return message.items.size();
}

void ShardLink::on_copy(wire::CopyBlocks order) {
  if (!meant(order)) {
    log(LogLevel::warn, "node {}: CopyBlocks of epoch {} refused: it is {}", config_.node.value,
        order.epoch.value, epoch_.value);
    return;
  }
  static_cast<void>(slots_.post([link = link_, order = std::move(order)](SlotSide& slots) mutable {
    slots.copy(link, std::move(order));
  }));
}

/// Again and again until it is answered, or the connection goes.
template <class Noted, class Message>
Task<> ShardLink::tell(Message message) {
  for (bool noted = false; !noted && up();) {
    Task<Result<Noted>> calling = calls_.call<Noted>(peer_, message, answer_deadline(), header());
    const Result<Noted> answer = co_await calling;
    noted = answer.has_value();
    if (!answer) again(answer.error());
  }
}

void ShardLink::freed(LinkId link, std::vector<wire::SlotRef> slots) {
  if (is_current(link)) loop_.spawn(confirm_freed(std::move(slots)));
}

Task<> ShardLink::confirm_freed(std::vector<wire::SlotRef> slots) {
  const Child child(*this);
  wire::Freed freed;
  freed.node = config_.node;
  freed.incarnation = config_.incarnation;
  freed.items = std::move(slots);
  Task<> telling = tell<wire::FreedNoted>(std::move(freed));
  co_await telling;
}

void ShardLink::corrupt(LinkId link, wire::SlotRef at) {
  if (!is_current(link)) return;
  to_tell_corrupt_.push_back(at);
  start_telling_corrupt();
}

/// A shard lets that pass of a slot it has not heard of: a report that came behind would stand.
void ShardLink::start_telling_corrupt() {
  if (!reported_) return;
  for (const wire::SlotRef& at : std::exchange(to_tell_corrupt_, {})) {
    loop_.spawn(tell_corrupt(at));
  }
}

Task<> ShardLink::tell_corrupt(wire::SlotRef at) {
  const Child child(*this);
  wire::Corrupt message;
  message.node = config_.node;
  message.incarnation = config_.incarnation;
  message.at = at;
  Task<> telling = tell<wire::CorruptNoted>(message);
  co_await telling;
}

void ShardLink::copied(LinkId link, std::vector<wire::CopyEnd> ends) {
  if (is_current(link)) loop_.spawn(tell_copied(std::move(ends)));
}

Task<> ShardLink::tell_copied(std::vector<wire::CopyEnd> ends) {
  const Child child(*this);
  wire::CopiesEnded message;
  message.node = config_.node;
  message.incarnation = config_.incarnation;
  message.items = std::move(ends);
  Task<> telling = tell<wire::CopiesNoted>(std::move(message));
  co_await telling;
}

void ShardLink::leave() {
  if (control_.leaving && reported_ && up()) loop_.spawn(tell_leaving());
}

/// For as long as the connection lasts: what is left is less each time, if all goes well.
Task<> ShardLink::tell_leaving() {
  const Child child(*this);
  wire::Leave message;
  message.node = config_.node;
  message.incarnation = config_.incarnation;
  while (up()) {
    Task<Result<wire::Leaving>> calling =
        calls_.call<wire::Leaving>(peer_, message, answer_deadline(), header());
    const Result<wire::Leaving> answer = co_await calling;
    if (answer) {
      note_alone(answer->alone);
    } else if (!again(answer.error())) {
      break;
    }
    Task<> waiting = farewell_.until(loop_.now() + kAskAgain);
    co_await waiting;
  }
  note_alone(wire::Leaving::kNotCounted);
}

void ShardLink::note_alone(std::uint64_t alone) {
  if (alone_ != wire::Leaving::kNotCounted) counters_.alone.fetch_sub(alone_);
  if (alone != wire::Leaving::kNotCounted) counters_.alone.fetch_add(alone);
  if (alone_ == 0) counters_.left.fetch_sub(1);
  if (alone == 0) counters_.left.fetch_add(1);
  alone_ = alone;
}

}  // namespace membrain
