#include "cache/node/peers.h"

#include <cstdint>

namespace membrain {

bool Peers::heard(PeerId peer) {
  return states_.try_emplace(peer.value, State::open).first->second == State::open;
}

void Peers::close(PeerId peer) {
  const auto found = states_.find(peer.value);
  if (found == states_.end() || found->second == State::closing) return;
  found->second = State::closing;
  gone_(peer);
  fabric_.loop().spawn(closing(peer));
}

void Peers::close_all() {
  std::vector<PeerId> open;
  for (const auto& [peer, state] : states_) {
    if (state == State::open) open.push_back(PeerId{peer});
  }
  for (const PeerId peer : open) close(peer);
}

Task<> Peers::closing(PeerId peer) {
  Task<> closed = fabric_.close(peer);
  co_await closed;
  states_.erase(peer.value);
}

}  // namespace membrain
