// UcxFabric: its worker, and when it takes another one.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "transport/ucx/peer_fabric.h"

namespace membrain {

namespace {

/// So many connections to a peer end unheard before the worker is replaced.
constexpr int kManyUnheard = 2;
/// Peers of which that is counted.
constexpr std::size_t kMostUnheard = 1024;
/// Without a doubt for so long, what settles them is let go of.
constexpr Duration kNoDoubts = std::chrono::seconds(2);

}  // namespace

Result<std::unique_ptr<UcxWorker>> UcxFabric::make_worker() {
  Result<std::unique_ptr<UcxWorker>> worker = UcxWorker::create(context_);
  if (!worker) return worker;
  const Result<> handled =
      (*worker)->handle(Connection::kMessageId, &Arrivals::on_message, &arrivals_);
  if (!handled) return fail(handled.error());
  if (const Result<> met = probe_.meet(**worker); !met) return fail(met.error());
  return worker;
}

/// A caller has its endpoint, whatever that goes over, before whoever answers it has one.
void UcxFabric::doubt(const Connection& lost) noexcept {
  if (&lost.worker() != worker_.get()) return;
  const bool greeting = !lost.called && lost.phase() == Connection::Phase::greeting;
  if (lost.lane == "shm" || (greeting && context_->shares_memory())) {
    doubted_at_ = std::min(doubted_at_, clock_.now());
  }
}

void UcxFabric::settle_doubt() {
  if (std::exchange(doubted_at_, TimePoint::max()) == TimePoint::max()) return;
  const Inside inside(around_);
  no_doubts_.arm(loop_.now() + kNoDoubts);
  if (probe_.heard_by(*worker_, context_)) return;
  const bool replaced = replace_worker("a process that was killed has left our queue stuck");
  if (!replaced) doubted_at_ = clock_.now() + kDoubtPatience;
}

bool UcxFabric::replace_worker(std::string_view why) {
  log(LogLevel::warn, "fabric {}: {}; a new worker is made, and all connect anew", label_, why);
  Result<std::unique_ptr<UcxWorker>> worker = make_worker();
  if (!worker) {
    log(LogLevel::error, "fabric {}: no new worker: {}", label_, worker.error().context);
    return false;
  }
  loop_.remove_source(*this);  // it has another descriptor now
  retired_.push_back(std::exchange(worker_, std::move(*worker)));
  loop_.add_source(*this);
  for (const auto& [id, connection] : connections_) {
    connection->break_off(Error{Errc::peer_lost, 0, "our worker was replaced"});
  }
  return true;
}

/// Once for a peer until it is heard: if that does not help, it is something else.
void UcxFabric::note_unheard(const Connection& connection) {
  if (!connection.called || connection.phase() != Connection::Phase::meeting) return;
  if (&connection.worker() != worker_.get()) return;  // it was us
  if (unheard_.size() >= kMostUnheard) unheard_.clear();
  Unheard& unheard = unheard_[connection.peer_fabric];
  if (++unheard.connections < kManyUnheard || unheard.replaced) return;
  unheard = {0, true};
  replace_worker("a peer answers, and is not heard: UCX may pair our endpoints with other ones");
}

void UcxFabric::end_retired() {
  std::erase_if(retired_, [this](const std::unique_ptr<UcxWorker>& worker) {
    return std::ranges::none_of(connections_, [&worker](const auto& entry) {
      return &entry.second->worker() == worker.get();
    });
  });
}

}  // namespace membrain
