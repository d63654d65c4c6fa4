// What `membrain ctl` shows of a cluster.
#pragma once

#include <string>
#include <vector>

#include "server/cluster/coordination.h"
#include "server/cluster/steering.h"

namespace membrain {

/// The names of servers that live, for a sentence.
[[nodiscard]] std::string known_servers(const SteeredCluster& cluster);

/// How each member of etcd is; each begins a line.
[[nodiscard]] std::string etcd_lines(const std::vector<CoordinationMember>& members);

[[nodiscard]] std::string cluster_json(const SteeredCluster& cluster,
                                       const std::vector<CoordinationMember>& members);
[[nodiscard]] std::string cluster_table(const SteeredCluster& cluster,
                                        const std::vector<CoordinationMember>& members);

}  // namespace membrain
