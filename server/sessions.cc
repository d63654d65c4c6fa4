#include "server/sessions.h"

namespace membrain {

void Session::settle(LookupId lookup, std::size_t max_settled) {
  if (!settled_.insert(lookup).second) return;
  settled_order_.push_back(lookup);
  if (settled_order_.size() <= max_settled) return;
  settled_.erase(settled_order_.front());
  settled_order_.pop_front();
}

Session* Sessions::open(SessionId id, TimePoint now) {
  if (!id || sessions_.size() >= limits_.max_sessions) return nullptr;
  const auto [place, made] = sessions_.try_emplace(id);
  if (!made) return nullptr;
  place->second.id = id;
  place->second.heard = now;
  return &place->second;
}

Session* Sessions::find(SessionId id) noexcept {
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : &found->second;
}

void Sessions::erase(SessionId id) {
  sessions_.erase(id);
}

std::vector<SessionId> Sessions::expired(TimePoint now) const {
  std::vector<SessionId> ids;
  for (const auto& [id, session] : sessions_) {
    if (now - session.heard > ttl_) ids.push_back(id);
  }
  return ids;
}

void Sessions::renew_all(TimePoint now) noexcept {
  for (auto& [id, session] : sessions_) session.heard = now;
}

}  // namespace membrain
