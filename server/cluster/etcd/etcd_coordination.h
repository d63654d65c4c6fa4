// EtcdCoordination: etcd's version 3 API behind our interface.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "server/cluster/coordination.h"
#include "server/cluster/etcd/etcd.h"
#include "server/cluster/etcd/etcd_calls.h"

namespace membrain {

/// One member serves until it fails, then the next does. Nothing is tried twice here: whoever asks
/// looks at what is there and asks again.
class EtcdCoordination final : public Coordination {
 public:
  EtcdCoordination(Loop& loop, std::vector<EtcdMember> members);

  Task<Result<Lease>> grant(Duration ttl, TimePoint deadline) override;
  Task<Result<Duration>> keep_alive(LeaseId lease, TimePoint deadline) override;
  Task<Result<LeaseTime>> time_left(LeaseId lease, TimePoint deadline) override;
  Task<Result<>> revoke(LeaseId lease, TimePoint deadline) override;
  Task<Result<CoordinationView>> read(std::string prefix, TimePoint deadline) override;
  Task<Result<Committed>> commit(CoordinationChange change, TimePoint deadline) override;
  Task<> changed(std::string prefix, Revision after, TimePoint deadline) override;
  Task<std::vector<CoordinationMember>> members(TimePoint deadline) override;
  Task<> stop() override;

 private:
  /// Whoever serves, or that member.
  template <class Response, class Begin>
  Task<Result<>> ask(TimePoint deadline, Response& response, Begin begin);
  template <class Response, class Begin>
  Task<Result<>> ask_one(std::size_t member, TimePoint deadline, Response& response, Begin begin);
  void prepare(grpc::ClientContext& context, TimePoint deadline);
  Result<> outcome(const grpc::Status& status, std::size_t member);
  void note_failure(Errc code, std::size_t member);
  Result<> check_cluster(const pb::ResponseHeader& header);
  Result<> check_revision(const pb::ResponseHeader& header, Revision known);

  Loop& loop_;
  EtcdArrivals arrivals_;
  std::vector<EtcdMember> members_;
  std::size_t member_ = 0;
  std::uint64_t cluster_ = 0;  ///< etcd's id of itself, as the first answer had it
  Revision newest_ = 0;        ///< that a linearizable answer had
  bool went_back_ = false;     ///< one had an earlier one: nothing is taken from etcd any more
  std::set<grpc::ClientContext*> under_way_;
  bool stopping_ = false;
};

}  // namespace membrain
