#include "server/cluster/etcd/etcd_coordination.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "base/log.h"
#include "server/cluster/etcd/lease_time.h"

namespace membrain {

namespace {

/// So many calls to a member that were not answered in time, one after the other, are reason enough
/// for another connection.
constexpr std::uint32_t kSilentCalls = 3;
constexpr Duration kStatusPatience = std::chrono::seconds(1);
constexpr const char* kWentBack =
    "etcd was wiped or restored: stop servers, nodes and engines, start nodes with --fresh";

/// The first key behind all that begin with `prefix`.
std::string end_of(std::string prefix) {
  while (!prefix.empty() && static_cast<unsigned char>(prefix.back()) == 0xff) prefix.pop_back();
  if (prefix.empty()) return std::string(1, '\0');  // to the end of all keys
  ++prefix.back();
  return prefix;
}

/// All keys that begin with `prefix`. A range may not begin with nothing.
template <class Range>
void set_range(Range& range, const std::string& prefix) {
  range.set_key(prefix.empty() ? std::string(1, '\0') : prefix);
  range.set_range_end(end_of(prefix));
}

std::int64_t number(std::uint64_t value) noexcept {
  return static_cast<std::int64_t>(value);
}
std::uint64_t revision_of(std::int64_t value) noexcept {
  return static_cast<std::uint64_t>(value);
}

Errc code_of(grpc::StatusCode code) noexcept {
  switch (code) {
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return Errc::timed_out;
    case grpc::StatusCode::CANCELLED:
      return Errc::cancelled;
    case grpc::StatusCode::NOT_FOUND:
      return Errc::not_found;
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::PERMISSION_DENIED:
      return Errc::denied;
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return Errc::out_of_capacity;
    case grpc::StatusCode::INVALID_ARGUMENT:
      return Errc::invalid_argument;
    default:
      return Errc::unavailable;
  }
}

void add_compare(pb::TxnRequest& txn, const std::string& key, pb::Compare::CompareTarget target,
                 Revision at) {
  pb::Compare& compare = *txn.add_compare();
  compare.set_result(pb::Compare::EQUAL);
  compare.set_target(target);
  compare.set_key(key);
  if (target == pb::Compare::CREATE) compare.set_create_revision(number(at));
  if (target == pb::Compare::MOD) compare.set_mod_revision(number(at));
}

CoordinationEntry entry_of(const pb::KeyValue& kv) {
  return {kv.key(), kv.value(), revision_of(kv.create_revision()), revision_of(kv.mod_revision()),
          LeaseId{static_cast<std::uint64_t>(kv.lease())}};
}

}  // namespace

bool EtcdArrivals::progress() {
  {
    const std::lock_guard lock(mutex_);
    taken_.swap(arrived_);
  }
  for (Completion* const call : taken_) call->finish({});
  const bool any = !taken_.empty();
  taken_.clear();
  return any;
}

bool EtcdArrivals::arm() noexcept {
  const std::lock_guard lock(mutex_);
  return arrived_.empty();
}

EtcdCoordination::EtcdCoordination(Loop& loop, std::vector<EtcdMember> members)
    : loop_(loop), arrivals_(loop), members_(std::move(members)) {}

void EtcdCoordination::prepare(grpc::ClientContext& context, TimePoint deadline) {
  const auto since = deadline.time_since_epoch();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since);
  gpr_timespec when{};
  when.tv_sec = seconds.count();
  when.tv_nsec = static_cast<std::int32_t>((since - seconds).count());
  when.clock_type = GPR_CLOCK_MONOTONIC;  // ours counts from the same moment
  context.set_deadline(when);
  under_way_.insert(&context);
}

/// A member that does not answer is left for the next. One whose connection goes on to swallow what
/// it is asked gets another connection: it may be the only member there is.
void EtcdCoordination::note_failure(Errc code, std::size_t member) {
  EtcdMember& one = members_[member];
  one.silent_calls = code == Errc::timed_out ? one.silent_calls + 1 : 0;
  if (one.silent_calls >= kSilentCalls) one.connect();
  const bool silent = code == Errc::unavailable || code == Errc::timed_out;
  if (silent && member == member_) member_ = (member_ + 1) % members_.size();
}

/// What a call's end means.
Result<> EtcdCoordination::outcome(const grpc::Status& status, std::size_t member) {
  if (status.ok()) {
    members_[member].silent_calls = 0;
    return {};
  }
  const Errc code = code_of(status.error_code());
  if (stopping_) return fail(Errc::cancelled, "coordination is over");
  log(LogLevel::debug, "etcd: {} ({})", status.error_message(), to_string(code));
  note_failure(code, member);
  switch (code) {
    case Errc::not_found:
      return fail(code, "etcd knows no such lease");
    case Errc::denied:
      return fail(code, "etcd refuses this user or certificate");
    case Errc::out_of_capacity:
      return fail(code, "etcd's storage is full: compact and defragment it");
    case Errc::timed_out:
      return fail(code, "etcd does not answer in time");
    default:
      if (!members_[member].address.starts_with("https:")) {
        return fail(code, "etcd cannot be reached, or has no leader");
      }
      // gRPC does not say which of them.
      return fail(code,
                  "etcd cannot be reached, has no leader, asks for another certificate than ours "
                  "(--etcd-cert), or has one that we do not take (--etcd-ca)");
  }
}

/// Endpoints of two clusters, or a cluster that was made anew, would give epochs out twice.
Result<> EtcdCoordination::check_cluster(const pb::ResponseHeader& header) {
  if (went_back_) return fail(Errc::corrupt, kWentBack);
  if (cluster_ == 0) cluster_ = header.cluster_id();
  if (cluster_ == header.cluster_id()) return {};
  log(LogLevel::error, "etcd: answers come from cluster {:x}, those before came from {:x}",
      header.cluster_id(), cluster_);
  return fail(Errc::corrupt, "another etcd cluster answers: check the endpoints");
}

/// So would one that was restored from a snapshot, or wiped and started with the same flags: its id
/// is the same. `known`: what was known when this was asked for, which linearizable answers count;
/// of two that are under way either may come first.
Result<> EtcdCoordination::check_revision(const pb::ResponseHeader& header, Revision known) {
  const Revision revision = revision_of(header.revision());
  newest_ = std::max(newest_, revision);
  if (revision >= known) return {};
  if (!std::exchange(went_back_, true)) {
    log(LogLevel::error,
        "etcd: its revision is {} and was {} before: it was restored from a snapshot, or wiped, and"
        " would give epochs out again. Stop all servers, nodes and engines, then start the servers,"
        " and the nodes with --fresh (docs/cluster.md, What etcd holds)",
        revision, known);
  }
  return fail(Errc::corrupt, kWentBack);
}

template <class Response, class Begin>
Task<Result<>> EtcdCoordination::ask(TimePoint deadline, Response& response, Begin begin) {
  Task<Result<>> asking = ask_one(member_, deadline, response, begin);
  co_return co_await asking;
}

template <class Response, class Begin>
Task<Result<>> EtcdCoordination::ask_one(std::size_t member, TimePoint deadline, Response& response,
                                         Begin begin) {
  if (stopping_) co_return fail(Errc::cancelled, "coordination is over");
  grpc::ClientContext context;
  grpc::Status status;
  Completion done(loop_.ready());
  prepare(context, deadline);
  begin(members_[member], context, response, [this, &status, &done](grpc::Status ended) {
    status = std::move(ended);
    arrivals_.finished(done);
  });
  static_cast<void>(co_await done);
  under_way_.erase(&context);
  if (const Result<> fine = outcome(status, member); !fine) co_return fine;
  co_return check_cluster(response.header());
}

Task<Result<Lease>> EtcdCoordination::grant(Duration ttl, TimePoint deadline) {
  pb::LeaseGrantRequest request;
  pb::LeaseGrantResponse response;
  request.set_ttl(std::chrono::ceil<std::chrono::seconds>(ttl).count());
  Task<Result<>> asking =
      ask(deadline, response, [&](EtcdMember& to, auto& context, auto& into, auto done) {
        to.lease->async()->LeaseGrant(&context, &request, &into, std::move(done));
      });
  const Result<> asked = co_await asking;
  if (!asked) co_return fail(asked.error());
  const Lease lease{LeaseId{static_cast<std::uint64_t>(response.id())}, lease_time(response.ttl())};
  if (!lease.id) co_return fail(Errc::corrupt, "etcd granted a lease without a name");
  if (lease.lasts == Duration::zero()) co_return fail(Errc::corrupt, "etcd granted no time");
  co_return lease;
}

Task<Result<>> EtcdCoordination::revoke(LeaseId lease, TimePoint deadline) {
  pb::LeaseRevokeRequest request;
  pb::LeaseRevokeResponse response;
  request.set_id(number(lease.value));
  Task<Result<>> asking =
      ask(deadline, response, [&](EtcdMember& to, auto& context, auto& into, auto done) {
        to.lease->async()->LeaseRevoke(&context, &request, &into, std::move(done));
      });
  const Result<> asked = co_await asking;
  if (!asked && asked.error().code == Errc::not_found) co_return Result<>{};
  co_return asked;
}

/// etcd counts in whole seconds, and below zero for one that it does not know.
Task<Result<LeaseTime>> EtcdCoordination::time_left(LeaseId lease, TimePoint deadline) {
  pb::LeaseTimeToLiveRequest request;
  pb::LeaseTimeToLiveResponse response;
  request.set_id(number(lease.value));
  Task<Result<>> asking =
      ask(deadline, response, [&](EtcdMember& to, auto& context, auto& into, auto done) {
        to.lease->async()->LeaseTimeToLive(&context, &request, &into, std::move(done));
      });
  const Result<> asked = co_await asking;
  if (!asked) co_return fail(asked.error());
  if (response.ttl() < 0) co_return fail(Errc::not_found, "this lease was ended");
  co_return LeaseTime{lease_time(response.ttl()), lease_time(response.grantedttl())};
}

Task<Result<CoordinationView>> EtcdCoordination::read(std::string prefix, TimePoint deadline) {
  pb::RangeRequest request;
  pb::RangeResponse response;
  set_range(request, prefix);
  const Revision known = newest_;
  Task<Result<>> asking =
      ask(deadline, response, [&](EtcdMember& to, auto& context, auto& into, auto done) {
        to.kv->async()->Range(&context, &request, &into, std::move(done));
      });
  const Result<> asked = co_await asking;
  if (!asked) co_return fail(asked.error());
  const Result<> later = check_revision(response.header(), known);
  if (!later) co_return fail(later.error());
  CoordinationView view;
  view.revision = revision_of(response.header().revision());
  for (const pb::KeyValue& kv : response.kvs()) view.entries.push_back(entry_of(kv));
  co_return view;
}

Task<Result<Committed>> EtcdCoordination::commit(CoordinationChange change, TimePoint deadline) {
  pb::TxnRequest request;
  pb::TxnResponse response;
  for (const auto& one : change.if_created) {
    add_compare(request, one.key, pb::Compare::CREATE, one.at);
  }
  for (const auto& one : change.if_modified) {
    add_compare(request, one.key, pb::Compare::MOD, one.at);
  }
  for (const std::string& key : change.removals) {
    request.add_success()->mutable_request_delete_range()->set_key(key);
  }
  for (const CoordinationChange::Put& put : change.puts) {
    pb::PutRequest& into = *request.add_success()->mutable_request_put();
    into.set_key(put.key);
    into.set_value(put.value);
    into.set_lease(number(put.lease.value));
  }
  const Revision known = newest_;
  Task<Result<>> asking =
      ask(deadline, response, [&](EtcdMember& to, auto& context, auto& into, auto done) {
        to.kv->async()->Txn(&context, &request, &into, std::move(done));
      });
  const Result<> asked = co_await asking;
  if (!asked) co_return fail(asked.error());
  const Result<> later = check_revision(response.header(), known);
  if (!later) co_return fail(later.error());
  co_return Committed{response.succeeded(), revision_of(response.header().revision())};
}

Task<Result<Duration>> EtcdCoordination::keep_alive(LeaseId lease, TimePoint deadline) {
  if (stopping_) co_return fail(Errc::cancelled, "coordination is over");
  grpc::ClientContext context;
  Completion done(loop_.ready());
  EtcdExchange<pb::LeaseKeepAliveRequest, pb::LeaseKeepAliveResponse> exchange(arrivals_, done,
                                                                               context);
  exchange.request.set_id(number(lease.value));
  prepare(context, deadline);
  const std::size_t member = member_;
  members_[member].lease->async()->LeaseKeepAlive(&context, &exchange);
  exchange.begin();
  static_cast<void>(co_await done);
  under_way_.erase(&context);
  if (!exchange.got) {
    const Result<> ended = outcome(exchange.status, member);
    co_return fail(ended ? Error{Errc::unavailable, 0, "etcd ended a stream"} : ended.error());
  }
  members_[member].silent_calls = 0;
  if (const Result<> fine = check_cluster(exchange.response.header()); !fine) {
    co_return fail(fine.error());
  }
  const Duration lasts = lease_time(exchange.response.ttl());
  if (lasts == Duration::zero()) co_return fail(Errc::not_found, "this lease is over");
  co_return lasts;
}

Task<> EtcdCoordination::changed(std::string prefix, Revision after, TimePoint deadline) {
  if (stopping_) co_return;
  grpc::ClientContext context;
  Completion done(loop_.ready());
  EtcdExchange<pb::WatchRequest, pb::WatchResponse> exchange(arrivals_, done, context);
  exchange.enough = [](const pb::WatchResponse& answer) {
    return answer.canceled() || answer.events_size() > 0;
  };
  pb::WatchCreateRequest& create = *exchange.request.mutable_create_request();
  set_range(create, prefix);
  create.set_start_revision(number(after + 1));
  // A member that is cut off from the others would keep the watch, and tell nothing.
  context.AddMetadata("hasleader", "true");
  prepare(context, deadline);
  const std::size_t member = member_;
  members_[member].watch->async()->Watch(&context, &exchange);
  exchange.begin();
  static_cast<void>(co_await done);
  under_way_.erase(&context);
  // Nothing has changed until the deadline; but that the watch begins is answered at once.
  const bool over = exchange.status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
  const bool quiet = over && exchange.heard;
  if (!exchange.got && !quiet) static_cast<void>(outcome(exchange.status, member));
}

Task<std::vector<CoordinationMember>> EtcdCoordination::members(TimePoint deadline) {
  std::vector<CoordinationMember> all;
  for (std::size_t i = 0; i < members_.size(); ++i) {
    const pb::StatusRequest request;
    pb::StatusResponse response;
    const TimePoint patience = std::min(deadline, loop_.now() + kStatusPatience);
    Task<Result<>> asking =
        ask_one(i, patience, response, [&](EtcdMember& to, auto& context, auto& into, auto done) {
          to.maintenance->async()->Status(&context, &request, &into, std::move(done));
        });
    const Result<> asked = co_await asking;
    CoordinationMember& member = all.emplace_back();
    member.address = members_[i].address;
    if (!asked) continue;
    member.version = response.version();
    member.has_leader = response.leader() != 0;
    member.bytes = static_cast<std::uint64_t>(std::max<std::int64_t>(response.dbsize(), 0));
  }
  co_return all;
}

Task<> EtcdCoordination::stop() {
  stopping_ = true;
  for (grpc::ClientContext* const context : under_way_) context->TryCancel();
  while (!under_way_.empty()) {
    const TimePoint soon = loop_.now() + std::chrono::milliseconds(1);
    co_await loop_.sleep_until(soon);
  }
}

}  // namespace membrain
