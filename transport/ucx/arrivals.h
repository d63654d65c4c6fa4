// What UCX's message handler notes, until the fabric looks at it.
#pragma once

#include <ucp/api/ucp.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "transport/ucx/connection.h"

namespace membrain {

/// One message as it came in.
struct Arrival {
  Connection* connection;
  std::uint32_t sequence;
  MessageKind kind;
  std::size_t frame_at;    ///< in the batch's bytes
  std::size_t frame_size;  ///< bytes
  HeldBytes data;
};

/// Tokens, and the messages that carried one of them. The handler runs inside UCX's progress: it
/// only copies the header and keeps the data.
class Arrivals {
 public:
  /// All that arrived since the last one was taken.
  struct Batch {
    std::vector<Arrival> messages;
    std::vector<std::byte> bytes;
    [[nodiscard]] std::span<const std::byte> frame_of(const Arrival& arrival) const noexcept {
      return std::span(bytes).subspan(arrival.frame_at, arrival.frame_size);
    }
  };

  /// From now on messages with the connection's token are noted, while it hears; others are
  /// dropped.
  void expect(Connection& connection) { by_token_[connection.own_token] = &connection; }
  /// Calls `release(data)` for what was noted of it, and is not taken any more.
  template <class Release>
  void forget(const Connection& connection, Release release) {
    by_token_.erase(connection.own_token);
    std::erase_if(pending_.messages, [&](const Arrival& arrival) {
      if (arrival.connection != &connection) return false;
      release(arrival.data);
      return true;
    });
  }

  [[nodiscard]] bool empty() const noexcept { return pending_.messages.empty(); }
  /// The batch stays valid until the next one is taken.
  Batch& take();

  /// For UcxWorker::handle; the argument is an Arrivals.
  static ucs_status_t on_message(void* arrivals, const void* header, std::size_t header_size,
                                 void* data, std::size_t size,
                                 const ucp_am_recv_param_t* param) noexcept;

 private:
  std::unordered_map<std::uint64_t, Connection*> by_token_;
  Batch pending_;
  Batch taken_;
};

}  // namespace membrain
