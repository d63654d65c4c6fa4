// The part of the cluster session that asks every shard what concerns them all.
#include <algorithm>
#include <map>
#include <utility>

#include "cache/client/cluster_session.h"

namespace membrain {

namespace {

/// One shard's share of a question about parts.
struct PartShare {
  wire::ProbeParts request;
  std::vector<std::size_t> places;  ///< of its parts in the whole question
};

void set_bit(std::vector<std::uint8_t>& bitmap, std::size_t bit) {
  bitmap[bit / 8] = static_cast<std::uint8_t>(bitmap[bit / 8] | 1U << (bit % 8));
}

bool is_set(const std::vector<std::uint8_t>& bitmap, std::size_t bit) noexcept {
  return bit / 8 < bitmap.size() && (bitmap[bit / 8] >> (bit % 8) & 1U) != 0;
}

}  // namespace

Task<Result<wire::NamespaceOpened>> ClusterSession::open(wire::OpenNamespace request,
                                                         TimePoint deadline) {
  const std::vector<ShardSession*> sessions = places_;
  std::vector<Result<wire::NamespaceOpened>> answers;
  Result<wire::NamespaceOpened> opened = fail(Errc::unavailable, "the server is away");
  for (ShardSession* const session : sessions) {
    Task<Result<wire::NamespaceOpened>> opening = session->open(request, deadline);
    answers.push_back(co_await opening);
    const Result<wire::NamespaceOpened>& answer = answers.back();
    if (!answer && answer.error().code != Errc::unavailable) co_return answer;
    if (!answer) continue;
    if (!opened) {
      opened = *answer;
    } else {
      opened->era = std::max(opened->era, answer->era);
      opened->other_seed = opened->other_seed || answer->other_seed;
    }
  }
  if (!opened) co_return opened;
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    if (!answers[i]) sessions[i]->open_later(opened->id, request);
  }
  for (ShardSession* const session : places_) {  // those that came by a split meanwhile
    const bool asked = std::ranges::find(sessions, session) != sessions.end();
    if (!asked) session->open_later(opened->id, request);
  }
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    if (!answers[i] || answers[i]->era == opened->era) continue;
    Task<Result<>> catching =
        catch_up(*sessions[i], opened->id, answers[i]->era, opened->era, deadline);
    if (const Result<> caught = co_await catching; !caught) co_return fail(caught.error());
  }
  co_return opened;
}

/// A clear that did not come to this shard.
Task<Result<>> ClusterSession::catch_up(ShardSession& session, NamespaceId space, Era from, Era to,
                                        TimePoint deadline) {
  while (from < to) {
    wire::Clear request;
    request.session = session.id();
    request.space = space;
    request.era = from;
    Task<Result<wire::Cleared>> asking = session.ask<wire::Cleared>(request, deadline);
    const Result<wire::Cleared> cleared = co_await asking;
    if (!cleared) co_return fail(cleared.error());
    if (cleared->era <= from) co_return fail(Errc::corrupt, "a clear that begins no new era");
    from = cleared->era;
  }
  co_return Result<>{};
}

Task<Result<wire::Cleared>> ClusterSession::clear(wire::Clear request, TimePoint deadline) {
  wire::Cleared newest;
  std::map<ShardId, Era> eras;
  // A shard may be split meanwhile: its last answer is for half of what were its keys then.
  const auto behind = [&]() -> ShardSession* {
    const auto found = std::find_if(places_.begin(), places_.end(), [&](const auto* session) {
      const auto era = eras.find(session->shard());
      return era == eras.end() || era->second < newest.era;
    });
    return found == places_.end() ? nullptr : *found;
  };
  while (ShardSession* const session = behind()) {
    Era& era = eras[session->shard()];
    if (era) {
      Task<Result<>> catching = catch_up(*session, request.space, era, newest.era, deadline);
      if (const Result<> caught = co_await catching; !caught) co_return fail(caught.error());
      era = newest.era;
      continue;
    }
    request.session = session->id();
    Task<Result<wire::Cleared>> asking = session->ask<wire::Cleared>(request, deadline);
    const Result<wire::Cleared> cleared = co_await asking;
    if (!cleared) co_return fail(cleared.error());
    era = cleared->era;
    newest.era = std::max(newest.era, era);
  }
  co_return newest;
}

Task<Result<wire::ProbedParts>> ClusterSession::probe_parts(wire::ProbeParts request,
                                                            TimePoint deadline) {
  std::map<std::size_t, PartShare> shares;  // by the shard's place
  for (std::size_t i = 0; i < request.parts.size(); ++i) {
    PartShare& share = shares[map_.index_of(request.parts[i].key)];
    share.request.parts.push_back(request.parts[i]);
    share.places.push_back(i);
  }
  wire::ProbedParts known;
  known.bitmap.assign((request.parts.size() + 7) / 8, 0);
  Result<> outcome;
  Completion all(loop_.ready(), static_cast<std::uint32_t>(shares.size()));
  for (auto& [place, share] : shares) {
    ShardSession& session = *places_[place];
    share.request.session = session.id();
    share.request.space = request.space;
    share.request.era = request.era;
    loop_.spawn([](ShardSession& asked, PartShare& part, TimePoint until, wire::ProbedParts& into,
                   Result<>& failed, Completion& ended) -> Task<> {
      Task<Result<wire::ProbedParts>> asking =
          asked.ask<wire::ProbedParts>(part.request, until, ShardSession::Silence::is_nothing);
      const Result<wire::ProbedParts> probed = co_await asking;
      if (!probed) failed = fail(probed.error());
      for (std::size_t i = 0; i < part.places.size() && probed; ++i) {
        if (is_set(probed->bitmap, i)) set_bit(into.bitmap, part.places[i]);
      }
      ended.finish({});
    }(session, share, deadline, known, outcome, all));
  }
  if (!shares.empty()) static_cast<void>(co_await all);
  if (shares.size() == 1 && !outcome) co_return fail(outcome.error());
  co_return known;  // what a shard did not say is not known
}

Task<Result<wire::Granted>> ClusterSession::grant(LookupId lookup, std::uint32_t valid_ms,
                                                  TimePoint deadline) {
  const std::vector<ShardSession*> sessions = places_;
  Result<wire::Granted> granted = fail(Errc::not_found, "this lookup pins nothing");
  for (ShardSession* const session : sessions) {
    if (session->pins().find(lookup) == nullptr) continue;
    wire::Grant request;
    request.session = session->id();
    request.lookup = lookup;
    request.valid_ms = valid_ms;
    Task<Result<wire::Granted>> asking = session->ask<wire::Granted>(request, deadline);
    granted = co_await asking;
    if (granted) break;
  }
  co_return granted;
}

Task<Result<std::map<std::string, std::uint64_t>>> ClusterSession::stats(TimePoint deadline) {
  const std::vector<ShardSession*> sessions = places_;
  std::map<std::string, std::uint64_t> counters;
  Result<> outcome = fail(Errc::unavailable, "the server is away");
  for (ShardSession* const session : sessions) {
    const wire::Stats request;
    Task<Result<wire::StatsReply>> asking = session->ask<wire::StatsReply>(request, deadline);
    const Result<wire::StatsReply> reply = co_await asking;
    if (!reply && !counters.empty()) continue;
    outcome = reply ? Result<>{} : Result<>(fail(reply.error()));
    if (!reply) continue;
    for (const wire::Counter& counter : reply->counters) counters[counter.name] += counter.value;
  }
  if (!outcome) co_return fail(outcome.error());
  co_return counters;
}

void ClusterSession::release(LookupId lookup) {
  for (const auto& [shard, session] : sessions_) {
    if (session->pins().find(lookup) == nullptr) continue;
    session->pins().release(lookup);
    session->pins_released();
  }
}

bool ClusterSession::knows(NodeId node, Incarnation incarnation) const noexcept {
  return std::ranges::any_of(
      places_, [&](const ShardSession* session) { return session->knows(node, incarnation); });
}

Task<> ClusterSession::refresh_nodes(TimePoint deadline) {
  const std::vector<ShardSession*> sessions = places_;
  for (ShardSession* const session : sessions) {
    Task<> refreshing = session->refresh_nodes(deadline);
    co_await refreshing;
  }
}

}  // namespace membrain
