// Membrain and Redis side by side, filled with the same values and names.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string_view>

#include "bench/filled_server.h"
#include "bench/peer_cluster.h"
#include "bench/redis_client.h"
#include "bench/redis_process.h"
#include "tools/outcome.h"

namespace membrain {

inline constexpr std::size_t kBatchBytes = std::size_t{32} << 20;  ///< of values, an iteration
inline constexpr std::uint64_t kPresentKeys = 1'000'000;

/// A name as Redis takes it: 16 bytes, as many as Membrain sends of one.
struct Key {
  explicit Key(const BlockHash& name) : hash(name) {}
  [[nodiscard]] std::string_view text() const noexcept {
    return {reinterpret_cast<const char*>(hash.bytes.data()), 16};
  }
  BlockHash hash;
};

/// Distinct values of one size that make up a working set no cache holds; a number says size and
/// place.
struct Values {
  static constexpr std::size_t kWorkingSetBytes = std::size_t{128} << 20;
  /// Redis is fastest with so much under way: with more, its output leaves the caches.
  static constexpr std::size_t kUnderWayBytes = std::size_t{4} << 20;

  explicit Values(std::size_t size) : bytes(size), count(kWorkingSetBytes / size) {}
  [[nodiscard]] std::uint64_t number(std::size_t index) const noexcept {
    return (std::uint64_t{bytes} << 20) + index % count;
  }
  [[nodiscard]] std::size_t batch() const noexcept { return kBatchBytes / bytes; }
  /// Commands of one value each that Redis is given at once.
  [[nodiscard]] std::size_t under_way() const noexcept {
    return std::clamp<std::size_t>(kUnderWayBytes / bytes, 2, 32);
  }
  /// Writes the values of `first` and on, as many as fit.
  void fill(std::size_t first, std::span<std::byte> memory) const noexcept;

  std::size_t bytes;
  std::size_t count;
};

/// Both sides, each started when a row first needs it and filled once for each size.
///
/// Ownership  Destroying it ends their processes. Threads: one.
class Rivals {
 public:
  Outcome<RedisClient*> redis_with(const Values& values);
  Outcome<PeerCluster*> membrain_with(const Values& values);
  /// Another cluster, in which nothing need stay.
  Outcome<PeerCluster*> membrain_for_stores();
  /// With `kPresentKeys` names, those of `bench_hash`.
  Outcome<RedisClient*> redis_with_keys();
  FilledServer& membrain_with_keys();

 private:
  Outcome<RedisClient*> redis();

  std::unique_ptr<RedisProcess> redis_process_;
  std::unique_ptr<RedisClient> redis_;
  std::unique_ptr<PeerCluster> membrain_;
  std::unique_ptr<PeerCluster> membrain_for_stores_;
  std::unique_ptr<FilledServer> membrain_with_keys_;
  std::set<std::size_t> in_redis_;  ///< sizes of values; 0: the present keys
  std::set<std::size_t> in_membrain_;
};

/// Sends `count` commands, at most `under_way` of them unanswered, and hands in every reply.
template <class Append, class Take>
bool pipelined(RedisClient& client, std::size_t count, std::size_t under_way, Append append,
               Take take) {
  std::size_t sent = 0;
  for (std::size_t taken = 0; taken < count; ++taken) {
    // Refilled by halves: many commands leave in one write.
    if (sent - taken <= under_way / 2) {
      while (sent < count && sent - taken < under_way) append(sent++);
    }
    if (!take(taken, client.next())) return false;
  }
  return true;
}

/// SETs of `count` values from `memory`, all acknowledged.
bool set_values(RedisClient& client, const Values& values, std::size_t first, std::size_t count,
                std::span<const std::byte> memory);

}  // namespace membrain
