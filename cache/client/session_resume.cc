// ShardSession: what the server is told that this client has opened and holds.
#include <utility>

#include "cache/client/session.h"

namespace membrain {

/// Namespaces and pins of the session before, for the new one. What a pin no longer finds is lost:
/// a fetch of it will be `stale`.
Task<Result<>> ShardSession::assert_again(TimePoint deadline) {
  for (const NamespaceId space : untold()) {
    wire::OpenNamespace request = opened_[space];
    const wire::Header head = header();
    Task<Result<wire::NamespaceOpened>> asked =
        calls_.call<wire::NamespaceOpened>(peer_, std::move(request), deadline, head);
    const Result<wire::NamespaceOpened> opened = co_await asked;
    if (!opened) co_return fail(opened.error());
    told_.insert(space);
  }
  const std::vector<LookupId> held = pins_.held();
  for (const LookupId lookup : held) {
    Task<Result<>> asserted = assert_pin(lookup, deadline);
    if (const Result<> outcome = co_await asserted; !outcome) co_return outcome;
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
