// ShardSession: what the server is told that this client has opened and holds.
#include <algorithm>
#include <span>
#include <utility>

#include "base/log.h"
#include "cache/client/session.h"
#include "protocol/servers.h"
#include "transport/completion.h"

namespace membrain {

namespace {

constexpr std::size_t kAssertedAtOnce = 32;

/// The shard does not want this one, and would not want it any more at the next attempt.
bool is_refusal(const Error& error) noexcept {
  return error.code == Errc::out_of_capacity || error.code == Errc::invalid_argument;
}

}  // namespace

/// A server that answers is alive, however much it is asked: what counts is its silence.
TimePoint ShardSession::patience(TimePoint deadline) const noexcept {
  return std::max(deadline, loop_.now() + Servers::kPatience);
}

/// Namespaces and pins of the session before, for the new one. What a pin no longer finds is lost:
/// a fetch of it will be `stale`. So is what the shard refuses: all the rest is there again.
Task<Result<>> ShardSession::assert_again(TimePoint deadline) {
  for (const NamespaceId space : untold()) {
    wire::OpenNamespace request = opened_[space];
    const wire::Header head = header();
    Task<Result<wire::NamespaceOpened>> asked =
        calls_.call<wire::NamespaceOpened>(peer_, std::move(request), patience(deadline), head);
    const Result<wire::NamespaceOpened> opened = co_await asked;
    if (opened) told_.insert(space);
    if (!opened && !is_refusal(opened.error())) co_return fail(opened.error());
  }
  const std::vector<LookupId> held = pins_.held();
  std::size_t refused = 0;
  for (std::size_t begin = 0; begin < held.size(); begin += kAssertedAtOnce) {
    const auto some =
        std::span(held).subspan(begin).first(std::min(kAssertedAtOnce, held.size() - begin));
    Completion all(loop_.ready(), static_cast<std::uint32_t>(some.size()));
    for (const LookupId lookup : some) {
      loop_.spawn([](Task<Result<>> asserting, std::size_t& lost, Completion& ended) -> Task<> {
        const Result<> asserted = co_await asserting;
        const bool gone = !asserted && is_refusal(asserted.error());
        if (gone) ++lost;
        ended.finish(gone ? Result<>{} : asserted);
      }(assert_pin(lookup, patience(deadline)), refused, all));
    }
    if (const Result<> outcome = co_await all; !outcome) co_return outcome;
  }
  if (refused != 0) {
    log(LogLevel::warn,
        "shard {}: {} of {} held lookups were refused after the reconnect: their "
        "blocks are not pinned any more",
        shard_.value, refused, held.size());
  }
  co_return Result<>{};
}

Task<Result<>> ShardSession::assert_pin(LookupId lookup, TimePoint deadline) {
  const HeldPin* pin = pins_.find(lookup);
  if (pin == nullptr) co_return Result<>{};  // released meanwhile
  wire::LookupSection section;
  section.space = pin->space;
  section.rule = wire::LookupRule::all;
  section.parts = pin->parts;
  for (const BlockKey& key : pin->keys) {
    if (range_.has(key)) section.keys.push_back(key);
  }
  if (section.keys.empty()) co_return Result<>{};
  wire::Lookup request;
  request.session = proof_.session;
  request.lookup = lookup;
  request.mode = wire::LookupMode::pin;
  request.sections.push_back(std::move(section));
  const wire::Header head = header();
  Task<Result<wire::Found>> asked =
      calls_.call<wire::Found>(peer_, std::move(request), deadline, head);
  const Result<wire::Found> found = co_await asked;
  if (!found) co_return fail(found.error());
  co_return Result<>{};
}

Task<Result<wire::NamespaceOpened>> ShardSession::open(wire::OpenNamespace request,
                                                       TimePoint deadline) {
  wire::OpenNamespace again = request;
  Task<Result<wire::NamespaceOpened>> asked =
      ask<wire::NamespaceOpened>(std::move(request), deadline);
  Result<wire::NamespaceOpened> opened = co_await asked;
  if (opened) {
    told_.insert(opened->id);
    opened_.insert_or_assign(opened->id, std::move(again));
  }
  co_return std::move(opened);
}

void ShardSession::open_later(NamespaceId space, const wire::OpenNamespace& request) {
  opened_.insert_or_assign(space, request);
  opening_ = !untold().empty();
  keep_signal_.raise();
}

std::vector<NamespaceId> ShardSession::untold() const {
  std::vector<NamespaceId> spaces;
  for (const auto& [space, request] : opened_) {
    if (!told_.contains(space)) spaces.push_back(space);
  }
  return spaces;
}

Task<> ShardSession::open_untold() {
  opening_ = false;
  const TimePoint deadline = loop_.now() + beat_every();
  for (const NamespaceId space : untold()) {
    Task<Result<wire::NamespaceOpened>> opening = open(opened_[space], deadline);
    const Result<wire::NamespaceOpened> opened = co_await opening;
    if (!opened) co_return;  // the next heartbeat tries again
  }
}

}  // namespace membrain
