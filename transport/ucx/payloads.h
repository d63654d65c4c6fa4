// Payloads that have arrived and were not yet received.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "transport/ucx/connection.h"

namespace membrain {

/// Gives what UCX keeps for us a number that outlives it: a Payload may be received or destroyed
/// when its connection is long gone.
class Payloads {
 public:
  struct Entry {
    Connection* connection = nullptr;  ///< null: gone
    HeldBytes data;
    std::uint32_t use = 0;  ///< tells one use of a place from the next
    bool taken = false;
  };

  [[nodiscard]] std::uint64_t add(Connection& connection, const HeldBytes& data);
  /// Removes and returns it; an empty entry if there is none of that number.
  Entry take(std::uint64_t id) noexcept;
  /// Calls `release(data)` for all of a connection that will not be received any more.
  template <class Release>
  void drop(const Connection& connection, Release release) {
    for (Entry& entry : entries_) {
      if (!entry.taken || entry.connection != &connection) continue;
      release(entry.data);
      entry.connection = nullptr;
      entry.data = {};
    }
  }

 private:
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> free_;
};

}  // namespace membrain
