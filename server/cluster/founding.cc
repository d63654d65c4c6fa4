#include "server/cluster/founding.h"

#include <fmt/format.h>

#include <utility>

#include "base/mac.h"

namespace membrain {

Task<Result<std::string>> cluster_id(Coordination& coordination, ClusterNames names,
                                     TimePoint deadline) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    Task<Result<CoordinationView>> reading = coordination.read(names.id(), deadline);
    const Result<CoordinationView> view = co_await reading;
    if (!view) co_return fail(view.error());
    if (const CoordinationEntry* const entry = view->find(names.id())) co_return entry->value;
    CoordinationChange change;
    change.if_created.push_back({names.id(), 0});
    change.puts.push_back(
        {names.id(), fmt::format("{:016x}{:016x}", random_u64(), random_u64()), LeaseId{}});
    Task<Result<Committed>> committing = coordination.commit(std::move(change), deadline);
    const Result<Committed> committed = co_await committing;
    if (!committed) co_return fail(committed.error());
  }
  co_return fail(Errc::unavailable, "the cluster's id was not kept");
}

}  // namespace membrain
