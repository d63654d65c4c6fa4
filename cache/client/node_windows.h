// NodeWindows: nodes' arenas that this process's hardware may read.
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "base/ids.h"
#include "cache/client/node_links.h"
#include "protocol/messages.h"
#include "transport/task.h"
#include "transport/windows.h"

namespace membrain {

/// One life of one node's arena, from outside.
struct NodeWindow {
  std::unique_ptr<RemoteWindow> remote;
  NodeId node;
  Incarnation life;
  std::uint64_t capacity_bytes = 0;
  std::uint64_t seals_offset = 0;
  std::uint64_t slots_offset = 0;

  /// True if `at` is a place in it.
  [[nodiscard]] bool reaches(const Location& at) const noexcept;
};

/// Each node is asked for its window once a connection, in the background; until it is there, and
/// when it has failed, the node is asked for blocks as ever. A window goes with the connection that
/// it was asked on.
///
/// Ownership  Borrows links and windows.
/// Threads    The data loop only. Stopped before it is destroyed.
class NodeWindows {
 public:
  NodeWindows(NodeLinks& links, Windows& windows);
  ~NodeWindows();
  NodeWindows(const NodeWindows&) = delete;
  NodeWindows& operator=(const NodeWindows&) = delete;

  /// The window of a node, if it is open.
  [[nodiscard]] std::shared_ptr<const NodeWindow> of(NodeId node, const wire::SessionProof& proof);
  /// Ends its reads at once, and does without it on this connection.
  void abandon(const NodeWindow& window);
  /// Closes all. Nothing reads any more.
  Task<> stop();

 private:
  struct Entry {
    PeerId asked_on;
    std::shared_ptr<NodeWindow> window;
  };
  Task<> ask(NodeId node, PeerId peer, wire::SessionProof proof);
  void let_go(Entry& entry);
  void forget_the_gone();
  Task<> close(std::shared_ptr<NodeWindow> window);

  NodeLinks& links_;
  Windows& windows_;
  std::map<NodeId, Entry> entries_;
  std::uint32_t running_ = 0;  ///< questions and closings
  bool stopping_ = false;
  Signal ended_;
};

/// Whether hardware may carry reads beside messages of this lane.
[[nodiscard]] bool may_have_window(std::string_view lane) noexcept;

}  // namespace membrain
