// Fences: nodes and clients that have heard of an epoch do not go back, and what clients were told
// of eras stands.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/sim/cluster.h"
#include "tests/sim/ledger.h"

namespace membrain::sim {

/// S3 as seen by those who obey. Where a lease ends before its time two servers may believe for a
/// moment that they lead: that harms nobody as long as everybody listens to the later one only.
class Fences {
 public:
  Fences(Cluster& cluster, Ledger& ledger) noexcept : cluster_(cluster), ledger_(ledger) {}
  void check();
  /// A term has begun.
  void begun(ShardId shard, Epoch epoch) { terms_[shard].push_back(epoch); }
  /// An era that a client was told of is what every leader goes by that nobody has deposed.
  void check_eras(const Cluster::Led& led);

 private:
  using Epochs = std::map<ShardId, Epoch>;
  /// One life of a process, and what it has heard.
  struct Heard {
    std::string life;
    Epochs epochs;
  };
  void hear(Heard& heard, const std::string& life, ShardId shard, Epoch epoch);

  Cluster& cluster_;
  Ledger& ledger_;
  std::map<ShardId, std::vector<Epoch>> terms_;
  std::vector<Heard> nodes_;
  std::vector<Heard> clients_;
};

}  // namespace membrain::sim
