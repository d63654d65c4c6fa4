// Calls to etcd: gRPC's threads finish them, the loop hears of it.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "membrain/result.h"
#include "server/cluster/etcd/rpc.grpc.pb.h"
#include "transport/completion.h"
#include "transport/loop.h"
#include "transport/task.h"

namespace membrain {

namespace pb = etcdserverpb;

/// One member of etcd, and the services that it offers.
struct EtcdMember {
  using Dial = std::function<std::shared_ptr<grpc::Channel>()>;

  EtcdMember(std::string at, Dial how) : address(std::move(at)), dial(std::move(how)) { connect(); }
  /// Over another channel from now on. Calls that are under way keep theirs.
  void connect() {
    const std::shared_ptr<grpc::Channel> channel = dial();
    kv = pb::KV::NewStub(channel);
    watch = pb::Watch::NewStub(channel);
    lease = pb::Lease::NewStub(channel);
    maintenance = pb::Maintenance::NewStub(channel);
    silent_calls = 0;
  }

  std::string address;  ///< as it was given
  Dial dial;
  std::unique_ptr<pb::KV::Stub> kv;
  std::unique_ptr<pb::Watch::Stub> watch;
  std::unique_ptr<pb::Lease::Stub> lease;
  std::unique_ptr<pb::Maintenance::Stub> maintenance;
  std::uint32_t silent_calls = 0;  ///< in a row that were not answered in time
};

/// Where what gRPC's threads have finished waits for the loop.
///
/// Threads  `finished` from any; everything else on the loop's.
class EtcdArrivals final : private Source {
 public:
  explicit EtcdArrivals(Loop& loop) : loop_(loop) { loop_.add_source(*this); }
  ~EtcdArrivals() { loop_.remove_source(*this); }
  EtcdArrivals(const EtcdArrivals&) = delete;
  EtcdArrivals& operator=(const EtcdArrivals&) = delete;

  /// The last that a thread of gRPC does with a call.
  void finished(Completion& call) {
    const std::lock_guard lock(mutex_);
    arrived_.push_back(&call);
    loop_.wake();
  }

 private:
  bool progress() override;
  [[nodiscard]] int event_fd() const noexcept override { return -1; }
  [[nodiscard]] bool arm() noexcept override;

  Loop& loop_;
  std::mutex mutex_;
  std::vector<Completion*> arrived_;  // guarded by mutex_
  std::vector<Completion*> taken_;
};

/// Writes one request on a stream and reads until `enough` says so.
template <class Request, class Response>
class EtcdExchange final : public grpc::ClientBidiReactor<Request, Response> {
 public:
  EtcdExchange(EtcdArrivals& arrivals, Completion& done, grpc::ClientContext& context)
      : arrivals_(arrivals), done_(done), context_(context) {}

  /// After the stub has bound it. What is to be done is said before the call starts: one that fails
  /// at once is over, and its stream freed, while its starter goes on.
  void begin() {
    this->StartWrite(&request);
    this->StartRead(&response);
    this->StartCall();
  }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    heard = true;
    if (!enough(response)) return this->StartRead(&response);
    got = true;
    context_.TryCancel();
  }
  void OnDone(const grpc::Status& ended) override {
    status = ended;
    arrivals_.finished(done_);  // nothing of this may be touched any more
  }

  Request request;
  Response response;
  bool (*enough)(const Response&) = [](const Response&) { return true; };
  bool heard = false;  ///< anything
  bool got = false;    ///< enough
  grpc::Status status;

 private:
  EtcdArrivals& arrivals_;
  Completion& done_;
  grpc::ClientContext& context_;
};

}  // namespace membrain
