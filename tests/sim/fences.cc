#include "tests/sim/fences.h"

#include <fmt/format.h>

#include <algorithm>

namespace membrain::sim {

void Fences::check() {
  nodes_.resize(cluster_.node_count());
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    const NodeLife* const node = cluster_.node(i);
    if (node == nullptr) continue;
    const std::string life = fmt::format("node{}, life {}", i, node->arena->incarnation().value);
    for (const auto& [shard, epoch] : node->service.epochs()) hear(nodes_[i], life, shard, epoch);
  }
  clients_.resize(cluster_.client_count());
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    const std::shared_ptr<ClientLife> client = cluster_.client(i);
    if (!client || !client->started) continue;
    ClusterSession& cluster = client->core.cluster();
    for (std::size_t place = 0; place < cluster.map().count(); ++place) {
      const ShardSession& session = cluster.session(place);
      hear(clients_[i], client->name, session.shard(), session.proof().epoch);
    }
  }
}

void Fences::hear(Heard& heard, const std::string& life, ShardId shard, Epoch epoch) {
  if (heard.life != life) heard = {life, {}};
  Epoch& latest = heard.epochs[shard];
  if (epoch && epoch < latest) {
    ledger_.violation(fmt::format("S3: {} went back from epoch {} of shard {} to {}", life,
                                  latest.value, shard.value, epoch.value));
  }
  if (epoch <= latest) return;
  const std::vector<Epoch>& terms = terms_[shard];
  const bool missed = latest && std::ranges::any_of(terms, [&](Epoch between) {
                        return latest < between && between < epoch;
                      });
  if (missed) ledger_.counts.meet("an epoch that a node or client missed");
  latest = epoch;
}

void Fences::check_eras(const Cluster::Led& led) {
  if (led.deposed) return;
  const Namespaces& spaces = led.shard->namespaces();
  for (const auto& [id, told] : ledger_.told_eras()) {
    const SpaceIndex space = spaces.find(id);
    if (space == kNoSpace || spaces[space].era >= told) continue;
    ledger_.violation(fmt::format("S3: a client was told of era {}, and shard {} goes by {}",
                                  told.value, led.id.value, spaces[space].era.value));
  }
}

}  // namespace membrain::sim
