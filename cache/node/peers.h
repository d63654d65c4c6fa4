// Peers: the connections of the data loop, and how one is closed.
#pragma once

#include <functional>
#include <unordered_map>
#include <vector>

#include "transport/fabric.h"
#include "transport/loop.h"
#include "transport/task.h"

namespace membrain {

/// Remembers who has spoken, so that all can be closed; closes one that broke the rules or lets a
/// transfer hang, so that nothing of it is in flight any more.
///
/// Threads  The loop's.
class Peers {
 public:
  /// `gone` is told of every peer whose closing has begun.
  Peers(Fabric& fabric, std::function<void(PeerId)> gone)
      : fabric_(fabric), gone_(std::move(gone)) {}

  /// A message came. False if the peer is being closed: drop it.
  bool heard(PeerId peer);
  /// The fabric lost it.
  void lost(PeerId peer) { states_.erase(peer.value); }
  /// Begins to close it; its transfers end meanwhile.
  void close(PeerId peer);
  void close_all();
  [[nodiscard]] bool empty() const noexcept { return states_.empty(); }

 private:
  enum class State : unsigned char { open, closing };
  Task<> closing(PeerId peer);

  Fabric& fabric_;
  std::function<void(PeerId)> gone_;
  std::unordered_map<std::uint64_t, State> states_;
};

}  // namespace membrain
