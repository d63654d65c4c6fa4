#include "cache/client/mapped_fetch.h"

#include <algorithm>
#include <utility>

#include "cache/client/deadline.h"

namespace membrain {

namespace {

constexpr std::size_t kSealsAhead = 4;  // fetched while a block is copied
constexpr Error kTakenBack{Errc::cancelled, 0, "the fetch was taken back"};

/// What the checked way would also accept; it says what is wrong with the others.
bool is_sound(const Match::State& match, const WantedRange& item) noexcept {
  if (item.block >= match.keys.size() || item.part >= match.parts) return false;
  const std::span<const FoundReplica> replicas = match.replicas_of(item.block, item.part);
  if (replicas.empty()) return true;  // a miss
  const std::uint32_t whole = replicas.front().at.length;
  if (item.offset >= whole || item.length > whole - item.offset) return false;
  const std::uint32_t length = item.length != 0 ? item.length : whole - item.offset;
  return item.sound && item.into.size_bytes() == length;
}

}  // namespace

std::optional<MappedItem> mapped_replica(const Match::State& match, std::uint32_t block,
                                         std::uint16_t part, const ArenaSet& arenas) noexcept {
  for (const FoundReplica& replica : match.replicas_of(block, part)) {
    const ArenaSet::Arena* arena = arenas.find(replica.at.node);
    if (arena == nullptr || (*arena)->life() != replica.at.incarnation) continue;
    return MappedItem{0, arena->get(), &replica.at, {match.space, match.keys[block], part}};
  }
  return std::nullopt;
}

std::optional<MappedPlan> plan_mapped(const Match::State& match, const FetchList& items,
                                      std::shared_ptr<const ArenaSet> arenas) {
  if (match.probe || !arenas) return std::nullopt;
  MappedPlan plan;
  plan.mapped.reserve(items.size());
  for (std::uint32_t i = 0; i < items.size(); ++i) {
    if (!is_sound(match, items[i])) return std::nullopt;
    auto mapped = mapped_replica(match, items[i].block, items[i].part, *arenas);
    if (!mapped) {
      plan.rest.push_back(i);
      continue;
    }
    mapped->item = i;
    plan.mapped.push_back(*mapped);
  }
  if (plan.mapped.empty()) return std::nullopt;
  plan.arenas = std::move(arenas);
  return plan;
}

bool copy_item(const MappedItem& mapped, const WantedRange& item, bool verify) noexcept {
  const bool whole = item.into.size_bytes() == mapped.at->length;
  return copy_part(*mapped.arena, mapped.name, *mapped.at, item.offset, item.into, verify && whole);
}

MixedFetch::MixedFetch(Job job)
    : job_(std::move(job)), deadline_(deadline_after(job_.clock->now(), job_.options.timeout)) {
  report_.items.resize(job_.items.size());
}

void MixedFetch::start() {
  if (!job_.plan.rest.empty()) send_checked(std::exchange(job_.plan.rest, {}));
  end_part();
}

void MixedFetch::ask() {
  if (begun_.exchange(true)) return;
  std::vector<std::uint32_t> items;
  items.reserve(job_.plan.mapped.size());
  for (const MappedItem& mapped : job_.plan.mapped) items.push_back(mapped.item);
  send_checked(std::move(items));
  end_part();
}

void MixedFetch::copy(const std::function<void()>& between) {
  if (begun_.exchange(true)) return;
  const std::vector<MappedItem>& mapped = job_.plan.mapped;
  std::vector<std::uint32_t> failed;
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < mapped.size(); ++i) {
    if (between) between();
    const std::uint32_t item = mapped[i].item;
    const bool cancelled = cancelled_.load(std::memory_order_relaxed);
    if (cancelled || job_.clock->now() >= deadline_) {
      end_item(item, {.why = cancelled ? Errc::cancelled : Errc::timed_out});
      continue;
    }
    if (i + kSealsAhead < mapped.size()) {
      mapped[i + kSealsAhead].arena->prefetch(*mapped[i + kSealsAhead].at);
    }
    if (copy_item(mapped[i], job_.items[item], job_.verify)) {
      bytes += job_.items[item].into.size_bytes();
      end_item(item, {.ok = true});
    } else {
      failed.push_back(item);
    }
  }
  {
    const std::lock_guard lock(mutex_);
    report_.bytes += bytes;
    if (bytes != 0) report_.lane_bytes[kMappedLane] += bytes;
    if (cancelled_.load(std::memory_order_relaxed) && !failed_) {
      failed_ = kTakenBack;
    }
  }
  if (!failed.empty()) send_checked(std::move(failed));
  end_part();
}

void MixedFetch::give_up(Errc why) {
  if (begun_.exchange(true)) return;
  for (const MappedItem& mapped : job_.plan.mapped) end_item(mapped.item, {.why = why});
  if (why == Errc::cancelled) {
    const std::lock_guard lock(mutex_);
    if (!failed_) failed_ = kTakenBack;
  }
  end_part();
}

void MixedFetch::send_checked(std::vector<std::uint32_t> items) {
  FetchList wanted = job_.items.picked(items);
  TransferOptions options;
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - job_.clock->now());
  options.timeout = std::max(left, std::chrono::milliseconds(1));
  const auto self = shared_from_this();
  auto numbers = std::make_shared<const std::vector<std::uint32_t>>(std::move(items));
  if (job_.options.on_item) {
    options.on_item = [self, numbers](std::size_t item, const ItemOutcome& outcome) {
      const std::lock_guard lock(self->mutex_);
      self->job_.options.on_item((*numbers)[item], outcome);
    };
  }
  {
    const std::lock_guard lock(mutex_);
    ++parts_;
  }
  job_.checked(std::move(wanted), std::move(options),
               [self, numbers](auto report) { self->take_checked(*numbers, std::move(report)); });
}

void MixedFetch::take_checked(const std::vector<std::uint32_t>& items,
                              Result<TransferReport> report) {
  {
    const std::lock_guard lock(mutex_);
    if (report) {
      for (std::size_t i = 0; i < items.size(); ++i) report_.items[items[i]] = report->items[i];
      report_.bytes += report->bytes;
      for (const auto& [lane, bytes] : report->lane_bytes) report_.lane_bytes[lane] += bytes;
      report_.detours += report->detours;
    } else if (!failed_) {
      failed_ = report.error();
    }
  }
  end_part();
}

void MixedFetch::end_item(std::uint32_t item, const ItemOutcome& outcome) {
  const std::lock_guard lock(mutex_);
  report_.items[item] = outcome;
  if (job_.options.on_item) job_.options.on_item(item, outcome);
}

void MixedFetch::end_part() {
  {
    const std::lock_guard lock(mutex_);
    if (--parts_ != 0) return;
  }
  if (failed_) {
    job_.reported(fail(*failed_));
  } else {
    job_.reported(std::move(report_));
  }
}

}  // namespace membrain
