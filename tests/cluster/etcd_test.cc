// EtcdCoordination against a real etcd, which the test starts. Skipped where there is none.
#include "server/cluster/etcd/etcd.h"
#include "tests/transport/await.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "tools/child.h"
#include "tools/etcd_options.h"
#include "tools/free_port.h"

namespace membrain {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* kEtcd = "/usr/bin/etcd";
constexpr const char* kOpenssl = "/usr/bin/openssl";

std::string url_of(unsigned port) {
  return "http://127.0.0.1:" + std::to_string(port);
}

/// What a member is started with.
struct EtcdPlan {
  std::string name = "default";
  std::string peer = url_of(free_port());
  std::string all;           ///< members, as etcd wants them; empty: it is alone
  std::string certificates;  ///< the folder of its own; empty: no TLS
  std::string clients;       ///< the file of those it asks clients for; empty: of none
};

/// One member.
class RealEtcd {
 public:
  explicit RealEtcd(const EtcdPlan& plan = {}) : url_(url_of(free_port())) {
    const std::filesystem::path temporary = std::filesystem::temp_directory_path();
    std::string pattern = (temporary / "membrain-etcd-XXXXXX").string();
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    if (!plan.certificates.empty()) url_.replace(0, 4, "https");
    const std::string all = plan.all.empty() ? plan.name + "=" + plan.peer : plan.all;
    config_.name = "etcd";
    config_.program = kEtcd;
    config_.words = {"--name",
                     plan.name,
                     "--data-dir",
                     folder_ + "/data",
                     "--listen-client-urls",
                     url_,
                     "--advertise-client-urls",
                     url_,
                     "--listen-peer-urls",
                     plan.peer,
                     "--initial-advertise-peer-urls",
                     plan.peer,
                     "--initial-cluster",
                     all,
                     "--log-level",
                     "error"};
    if (!plan.certificates.empty()) {
      for (const char* const what : {"cert", "key"}) {
        config_.words.push_back(std::string("--") + what + "-file");
        config_.words.push_back(plan.certificates + "/" + what + ".pem");
      }
    }
    if (!plan.clients.empty()) {
      config_.words.insert(config_.words.end(),
                           {"--client-cert-auth", "--trusted-ca-file", plan.clients});
    }
    start();
  }
  ~RealEtcd() {
    end();
    std::filesystem::remove_all(folder_);
  }
  [[nodiscard]] const std::string& url() const noexcept { return url_; }
  void send(int signal) const { ::kill(process_->pid(), signal); }
  void start() { process_ = std::move(Child::start(config_).value()); }
  void end() {
    if (process_) process_->kill_now();
    process_.reset();
  }
  /// It begins anew, with the same flags and so with the same id.
  void wipe() {
    end();
    std::filesystem::remove_all(folder_ + "/data");
    start();
  }

 private:
  std::string url_;
  std::string folder_;
  ChildConfig config_;
  std::unique_ptr<Child> process_;
};

/// A certificate for this host, which signs itself and is like no other, and its key.
class Certificate {
 public:
  Certificate() {
    std::string pattern = (std::filesystem::temp_directory_path() / "membrain-XXXXXX").string();
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    renew();
  }
  ~Certificate() { std::filesystem::remove_all(folder_); }
  Certificate(const Certificate&) = delete;
  Certificate& operator=(const Certificate&) = delete;

  void renew() const {
    const std::string command =
        std::string(kOpenssl) +
        " req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        " -subj /CN=etcd -addext subjectAltName=IP:127.0.0.1 -keyout " +
        folder_ + "/key.pem -out " + folder_ + "/cert.pem 2>/dev/null";
    EXPECT_EQ(std::system(command.c_str()), 0);
  }
  [[nodiscard]] const std::string& folder() const noexcept { return folder_; }
  [[nodiscard]] std::string file() const { return folder_ + "/cert.pem"; }
  [[nodiscard]] std::string key_file() const { return folder_ + "/key.pem"; }

 private:
  std::string folder_;
};

class EtcdTest : public testing::Test {
 protected:
  void SetUp() override {
    set_log_level(LogLevel::error);
    if (::access(kEtcd, X_OK) != 0) GTEST_SKIP() << "no etcd: apt-get install etcd-server";
    etcd_ = std::make_unique<RealEtcd>();
    store_ = connect({etcd_->url()});
    if (!store_) GTEST_SKIP() << "built without gRPC";
    wait_for(*store_);
  }
  void TearDown() override {
    if (store_) stop(*store_);
  }
  std::unique_ptr<Coordination> connect(std::vector<std::string> endpoints,
                                        const std::string& ca_file = {}) {
    Result<std::unique_ptr<Coordination>> made =
        make_etcd_coordination(loop_, {std::move(endpoints), ca_file, {}, {}});
    return made ? std::move(*made) : nullptr;
  }
  /// Until it answers.
  void wait_for(Coordination& store) {
    const TimePoint limit = in(seconds(30));
    while (!await(store.read("", in(seconds(1))))) {
      ASSERT_LT(clock_.now(), limit) << "etcd does not answer";
      turn();
    }
  }
  /// By an etcd that answers others.
  void expect_refused(const EtcdOptions& options, std::string_view why) {
    const std::unique_ptr<Coordination> store = connect_etcd(options, loop_).value();
    const Result<CoordinationView> asked = await(store->read("", in(seconds(5))));
    stop(*store);
    ASSERT_FALSE(asked);
    EXPECT_NE(asked.error().context.find(why), std::string_view::npos)
        << to_string(asked.error().code) << ": " << asked.error().context;
  }
  /// Until what answers is not what answered before.
  void wait_for_refusal(Coordination& store) {
    const TimePoint limit = in(seconds(30));
    Result<CoordinationView> asked;
    do {
      asked = await(store.read("", in(seconds(1))));
      ASSERT_LT(clock_.now(), limit);
    } while (!asked && asked.error().code != Errc::corrupt);
    EXPECT_FALSE(asked) << "its revisions are not those of the first";
  }
  [[nodiscard]] TimePoint in(Duration time) const { return clock_.now() + time; }
  template <class T>
  T await(Task<T> task) {
    std::optional<T> result;
    loop_.spawn(put_into(std::move(task), result));
    while (!result) turn();
    return std::move(*result);
  }
  void turn() {
    if (!loop_.turn()) loop_.wait(milliseconds(5));
  }
  void stop(Coordination& store) {
    bool ended = false;
    loop_.spawn(note_end(store.stop(), ended));
    while (!ended || loop_.running_tasks() > 0) turn();
  }
  Result<Committed> put(const std::string& key, const std::string& value, LeaseId lease = {}) {
    CoordinationChange change;
    change.puts.push_back({key, value, lease});
    return await(store_->commit(change, in(seconds(5))));
  }
  CoordinationView read(const std::string& prefix) {
    return await(store_->read(prefix, in(seconds(5)))).value();
  }

  SteadyClock clock_;
  Loop loop_{clock_};
  bool ended_ = false;
  std::unique_ptr<RealEtcd> etcd_;
  std::unique_ptr<Coordination> store_;
};

TEST_F(EtcdTest, KeysHaveRevisionsAndConditionsHold) {
  const Committed first = put("a/1", "one").value();
  ASSERT_TRUE(first.done);
  put("a/2", "two").value();
  put("b", "other").value();
  const CoordinationView view = read("a/");
  ASSERT_EQ(view.entries.size(), 2U);
  EXPECT_EQ(view.find("a/1")->value, "one");
  EXPECT_EQ(view.find("a/1")->created, first.revision);
  CoordinationChange change;
  change.if_created.push_back({"a/1", 0});
  change.puts.push_back({"a/1", "not", {}});
  EXPECT_FALSE(await(store_->commit(change, in(seconds(5))))->done);
  change.if_created = {{"a/1", first.revision}, {"c", 0}};
  change.if_modified = {{"a/2", view.find("a/2")->modified}};
  change.removals.push_back("b");
  const Committed second = await(store_->commit(change, in(seconds(5)))).value();
  ASSERT_TRUE(second.done);
  const CoordinationView after = read("");
  EXPECT_EQ(after.find("b"), nullptr);
  EXPECT_EQ(after.find("a/1")->value, "not");
  EXPECT_EQ(after.find("a/1")->created, first.revision);
  EXPECT_EQ(after.find("a/1")->modified, second.revision);
}

TEST_F(EtcdTest, ALeaseTakesItsKeysWithIt) {
  const Lease lease = await(store_->grant(seconds(2), in(seconds(5)))).value();
  EXPECT_GE(lease.lasts, seconds(2));
  ASSERT_TRUE(put("mortal", "1", lease.id)->done);
  EXPECT_EQ(read("mortal").entries.at(0).lease, lease.id);
  EXPECT_GE(await(store_->keep_alive(lease.id, in(seconds(5)))).value(), seconds(2));
  const LeaseTime time = await(store_->time_left(lease.id, in(seconds(5)))).value();
  EXPECT_EQ(time.of, lease.lasts);
  EXPECT_GE(time.left, store_->lease_grain());
  EXPECT_LE(time.left, time.of);
  EXPECT_EQ(time.left % store_->lease_grain(), Duration::zero());
  ASSERT_TRUE(await(store_->revoke(lease.id, in(seconds(5)))));
  EXPECT_EQ(await(store_->time_left(lease.id, in(seconds(5)))).error().code, Errc::not_found);
  EXPECT_TRUE(read("mortal").entries.empty());
  EXPECT_TRUE(await(store_->revoke(lease.id, in(seconds(5))))) << "it is over: no error";
  EXPECT_EQ(await(store_->keep_alive(lease.id, in(seconds(5)))).error().code, Errc::not_found);
  EXPECT_EQ(put("mortal", "1", lease.id).error().code, Errc::not_found);
  const Lease other = await(store_->grant(seconds(2), in(seconds(5)))).value();
  ASSERT_TRUE(put("silent", "1", other.id)->done);
  const TimePoint limit = in(seconds(30));
  while (!read("silent").entries.empty()) {
    ASSERT_LT(clock_.now(), limit) << "a lease that nobody renews does not end";
    turn();
  }
}

/// A call may be over before its starter is done with it: torture under AddressSanitizer found a
/// write on a stream that was freed.
TEST_F(EtcdTest, RenewalsWithoutTimeFailAndHarmNothing) {
  const Lease lease = await(store_->grant(seconds(60), in(seconds(5)))).value();
  for (int i = 0; i < 300; ++i) {
    EXPECT_FALSE(await(store_->keep_alive(lease.id, in(-seconds(1)))));
    static_cast<void>(await(store_->keep_alive(lease.id, in(std::chrono::microseconds(i)))));
  }
  EXPECT_TRUE(await(store_->keep_alive(lease.id, in(seconds(5)))));
}

TEST_F(EtcdTest, AChangeIsToldToWhoWaitsForIt) {
  const Revision before = put("w/1", "1")->revision;
  bool told = false;
  bool other = false;
  // One that still waits at the end is ended by `stop`.
  loop_.spawn(note_end(store_->changed("w/", UINT32_MAX, in(seconds(30))), ended_));
  loop_.spawn(note_end(store_->changed("w/", before, in(seconds(30))), told));
  loop_.spawn(note_end(store_->changed("x/", before, in(seconds(1))), other));
  put("y", "1").value();
  for (int i = 0; i < 20; ++i) turn();
  EXPECT_FALSE(told);
  put("w/2", "1").value();
  while (!told) turn();
  EXPECT_FALSE(other);
  while (!other) turn();  // its deadline
  told = false;
  loop_.spawn(note_end(store_->changed("w/", before, in(seconds(30))), told));
  while (!told) turn();  // it had happened before
  EXPECT_FALSE(ended_);
}

TEST_F(EtcdTest, AMemberThatDoesNotAnswerIsLeftForTheNext) {
  const std::unique_ptr<Coordination> store = connect({url_of(1), etcd_->url()});
  const Result<CoordinationView> first = await(store->read("", in(seconds(2))));
  EXPECT_EQ(first.error().code, Errc::unavailable);
  EXPECT_TRUE(await(store->read("", in(seconds(5)))));
  stop(*store);
}

TEST_F(EtcdTest, AStoppedMemberTimesOutAndServesAgain) {
  const TimePoint limit = in(seconds(30));
  etcd_->send(SIGSTOP);
  Result<CoordinationView> asked = await(store_->read("", in(milliseconds(300))));
  while (asked) {  // the signal has not reached it yet
    ASSERT_LT(clock_.now(), limit);
    asked = await(store_->read("", in(milliseconds(300))));
  }
  EXPECT_EQ(asked.error().code, Errc::timed_out);
  etcd_->send(SIGCONT);
  while (!await(store_->read("", in(seconds(1))))) ASSERT_LT(clock_.now(), limit);
}

TEST_F(EtcdTest, AnswersOfAnotherClusterAreRefused) {
  const RealEtcd other;
  const std::unique_ptr<Coordination> store = connect({etcd_->url(), other.url()});
  ASSERT_TRUE(await(store->read("", in(seconds(5)))));
  etcd_->send(SIGKILL);
  wait_for_refusal(*store);
  stop(*store);
}

TEST_F(EtcdTest, OneThatWasWipedIsRefusedThoughItsIdIsTheSame) {
  for (int i = 0; i < 10; ++i) put("a", "1").value();
  etcd_->wipe();
  wait_for_refusal(*store_);
  const Result<Lease> lease = await(store_->grant(seconds(2), in(seconds(5))));
  ASSERT_FALSE(lease) << "nothing is taken from it any more";
  EXPECT_EQ(lease.error().code, Errc::corrupt);
}

/// A linearizable answer may overtake another that was asked for before it.
TEST_F(EtcdTest, AnswersThatOvertakeEachOtherAreNoMistake) {
  constexpr int kCalls = 200;
  std::vector<std::optional<Result<Committed>>> puts(kCalls);
  std::vector<std::optional<Result<CoordinationView>>> views(kCalls);
  for (std::size_t i = 0; i < kCalls; ++i) {
    CoordinationChange change;
    change.puts.push_back({"o", std::to_string(i), {}});
    loop_.spawn(put_into(store_->commit(change, in(seconds(30))), puts[i]));
    loop_.spawn(put_into(store_->read("o", in(seconds(30))), views[i]));
  }
  while (loop_.running_tasks() > 0) turn();
  for (std::size_t i = 0; i < kCalls; ++i) EXPECT_TRUE(*puts[i] && *views[i]);
}

TEST_F(EtcdTest, AWatchEndsWhenItsMemberHasNoLeader) {
  EtcdPlan one{"one", url_of(free_port()), {}, {}, {}};
  EtcdPlan two{"two", url_of(free_port()), {}, {}, {}};
  one.all = two.all = "one=" + one.peer + ",two=" + two.peer;
  const RealEtcd first(one);
  auto second = std::make_unique<RealEtcd>(two);
  const std::unique_ptr<Coordination> store = connect({first.url()});
  wait_for(*store);
  bool told = false;
  const TimePoint limit = in(seconds(60));
  loop_.spawn(note_end(store->changed("n", UINT32_MAX, limit + seconds(60)), told));
  second.reset();
  while (!told) {
    ASSERT_LT(clock_.now(), limit) << "it waits for what nobody will tell";
    turn();
  }
  stop(*store);
}

TEST_F(EtcdTest, CertificatesThatAreRenewedAreTaken) {
  if (::access(kOpenssl, X_OK) != 0) GTEST_SKIP() << "no openssl: apt-get install openssl";
  const Certificate certificate;
  RealEtcd etcd({"tls", url_of(free_port()), {}, certificate.folder(), {}});
  const std::unique_ptr<Coordination> store = connect({etcd.url()}, certificate.file());
  wait_for(*store);
  etcd.end();
  certificate.renew();
  etcd.start();
  wait_for(*store);
  stop(*store);
}

TEST_F(EtcdTest, OneThatAsksForCertificatesTakesOursAndNobodyElse) {
  if (::access(kOpenssl, X_OK) != 0) GTEST_SKIP() << "no openssl: apt-get install openssl";
  const Certificate etcds;
  const Certificate ours;
  const Certificate strange;
  const RealEtcd etcd({"tls", url_of(free_port()), {}, etcds.folder(), ours.file()});
  EtcdOptions options;
  options.endpoints = {etcd.url()};
  options.ca_file = etcds.file();
  options.cert_file = ours.file();
  options.key_file = ours.key_file();
  const std::unique_ptr<Coordination> store = connect_etcd(options, loop_).value();
  wait_for(*store);
  stop(*store);
  options.cert_file = strange.file();
  options.key_file = strange.key_file();
  expect_refused(options, "--etcd-cert");
  options.cert_file.clear(), options.key_file.clear();
  expect_refused(options, "--etcd-cert");
}

TEST_F(EtcdTest, EndpointsThatMakeNoSenseAreNamed) {
  for (const char* const wrong : {"", "nowhere", "http://", "http://host", "http://host:1/path"}) {
    const auto made = make_etcd_coordination(loop_, {{wrong}, {}, {}, {}});
    ASSERT_FALSE(made) << wrong;
    EXPECT_EQ(made.error().code, Errc::invalid_argument);
  }
  EXPECT_FALSE(make_etcd_coordination(loop_, {}));
  const auto keyless = make_etcd_coordination(loop_, {{url_of(1)}, {}, "/a/certificate", {}});
  EXPECT_EQ(keyless.error().code, Errc::invalid_argument);
}

}  // namespace
}  // namespace membrain
