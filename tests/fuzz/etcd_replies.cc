// etcd's answers, as they come into EtcdCoordination: a server that answers every call with the
// input's bytes.
//
// Input: which call, then the answer's bytes.
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "server/cluster/etcd/etcd.h"
#include "tests/fuzz/target.h"
#include "tests/transport/await.h"

namespace membrain::fuzz {
namespace {

constexpr Duration kPatience = std::chrono::seconds(5);

std::string reply;  ///< changes only between calls

/// One call: reads what was asked, says `reply`, hangs up.
class Answer final : public grpc::ServerGenericBidiReactor {
 public:
  Answer() { StartRead(&asked_); }
  void OnReadDone(bool) override {
    const grpc::Slice slice(reply);
    said_ = grpc::ByteBuffer(&slice, 1);
    StartWriteAndFinish(&said_, {}, grpc::Status::OK);
  }
  void OnDone() override { delete this; }

 private:
  grpc::ByteBuffer asked_;
  grpc::ByteBuffer said_;
};

class Service final : public grpc::CallbackGenericService {
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override {
    return new Answer;
  }
};

/// The server, for as long as the process lives.
class Etcd {
 public:
  Etcd() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterCallbackGenericService(&service_);
    server_ = builder.BuildAndStart();
    check(server_ != nullptr, "no server can be started");
  }
  ~Etcd() { server_->Shutdown(); }
  Etcd(const Etcd&) = delete;
  Etcd& operator=(const Etcd&) = delete;

  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

 private:
  int port_ = 0;
  Service service_;
  std::unique_ptr<grpc::Server> server_;
};

/// A client of that server, who has not heard of any cluster yet.
class Asker {
 public:
  explicit Asker(const Etcd& etcd) {
    EtcdConfig config;
    config.endpoints = {etcd.url()};
    Result<std::unique_ptr<Coordination>> made = make_etcd_coordination(loop_, std::move(config));
    check(made.has_value(), "built without gRPC");
    store_ = std::move(*made);
  }
  ~Asker() { finish(store_->stop()); }
  Asker(const Asker&) = delete;
  Asker& operator=(const Asker&) = delete;

  void ask(std::uint8_t call) {
    const TimePoint deadline = clock_.now() + kPatience;
    switch (call % 6) {
      case 0:
        return take_view(await(store_->read("a/", deadline)));
      case 1:
        return take_lease(await(store_->grant(std::chrono::seconds(2), deadline)));
      case 2:
        take_time(await(store_->keep_alive(LeaseId{1}, deadline)));
        return take_rest(await(store_->time_left(LeaseId{1}, deadline)));  // a reply of that form
      case 3:
        return static_cast<void>(await(store_->revoke(LeaseId{1}, deadline)));
      case 4: {
        CoordinationChange change;
        change.if_created.push_back({"a/1", 0});
        change.puts.push_back({"a/1", "1", LeaseId{1}});
        return static_cast<void>(await(store_->commit(std::move(change), deadline)));
      }
      default:
        return finish(store_->changed("a/", 1, deadline));
    }
  }

 private:
  static void take_view(const Result<CoordinationView>& view) {
    if (!view) return;
    for (const CoordinationEntry& entry : view->entries) {
      check(view->find(entry.key) != nullptr, "an entry cannot be found");
    }
  }
  static void take_lease(const Result<Lease>& lease) {
    if (!lease) return;
    check(static_cast<bool>(lease->id), "a lease without a name");
    check(lease->lasts > Duration::zero(), "a lease that never was");
  }
  void take_time(const Result<Duration>& lasts) const {
    if (!lasts) return;
    check(*lasts > Duration::zero(), "a lease that is over goes on");
    check(clock_.now() + *lasts > clock_.now(), "a lease that ends before it began");
  }
  void take_rest(const Result<LeaseTime>& lease) const {
    if (!lease) return;
    for (const Duration time : {lease->left, lease->of}) {
      check(time >= Duration::zero(), "less than nothing is left");
      check(clock_.now() + time >= clock_.now(), "a lease that ended before this");
    }
  }
  template <class T>
  T await(Task<T> task) {
    std::optional<T> result;
    loop_.spawn(put_into(std::move(task), result));
    while (!result) turn();
    return std::move(*result);
  }
  void finish(Task<> task) {
    bool ended = false;
    loop_.spawn(note_end(std::move(task), ended));
    while (!ended || loop_.running_tasks() > 0) turn();
  }
  void turn() {
    if (!loop_.turn()) loop_.wait(std::chrono::milliseconds(5));
  }

  SteadyClock clock_;
  Loop loop_{clock_};
  std::unique_ptr<Coordination> store_;
};

/// The server, and one whose connection to it later ones find open.
struct House {
  House() { first.ask(3); }
  Etcd etcd;
  Asker first{etcd};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static const House house;
  reply.assign(text_of(bytes_of(data, size).subspan(1)));
  Asker(house.etcd).ask(data[0]);
  return 0;
}

}  // namespace membrain::fuzz
