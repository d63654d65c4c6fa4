#include "tools/admin_http.h"

#include <httplib.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "base/thread_pool.h"
#include "tools/units.h"

namespace membrain {
namespace {

constexpr std::uint32_t kThreads = 2;
constexpr std::time_t kPatienceSeconds = 2;

/// The library's own queue has no bound, and waits as ThreadPool says that one should not.
class Requests : public httplib::TaskQueue {
 public:
  void enqueue(std::function<void()> request) override {
    if (!pool_.post(request)) request();  // nobody is accepted meanwhile
  }
  void shutdown() override { pool_.stop(); }

 private:
  ThreadPool pool_{"mb-admin", kThreads};
};

/// The library's own choice, SO_REUSEPORT, would hide that the port is taken.
void reuse_address_only(socket_t socket) {
  const int yes = 1;
  ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
}

void answer_health(const AdminHttp::Source& status, httplib::Response& response) {
  const Outcome<std::string> text = status();
  response.status = text ? 200 : 503;
  response.set_content(text ? "ok\n" : text.error().text + "\n", "text/plain");
}

void answer_status(const AdminHttp::Source& status, httplib::Response& response) {
  const Outcome<std::string> text = status();
  response.status = text ? 200 : 503;
  response.set_content(text ? *text : nlohmann::json{{"error", text.error().text}}.dump() + "\n",
                       "application/json");
}

}  // namespace

struct AdminHttp::Service {
  httplib::Server server;
  std::thread thread;
  std::atomic<bool> ended = false;
};

AdminHttp::AdminHttp() : service_(std::make_unique<Service>()) {}

AdminHttp::~AdminHttp() {
  service_->server.stop();
  if (service_->thread.joinable()) service_->thread.join();
}

Outcome<std::unique_ptr<AdminHttp>> AdminHttp::start(const std::string& address, Source status) {
  std::unique_ptr<AdminHttp> admin(new AdminHttp);
  httplib::Server& server = admin->service_->server;
  server.new_task_queue = [] { return new Requests; };
  server.set_socket_options(reuse_address_only);
  server.set_read_timeout(kPatienceSeconds);
  server.set_write_timeout(kPatienceSeconds);
  server.set_keep_alive_max_count(1);
  server.set_payload_max_length(4096);
  server.Get("/healthz", [status](const httplib::Request&, httplib::Response& response) {
    answer_health(status, response);
  });
  server.Get("/status", [status](const httplib::Request&, httplib::Response& response) {
    answer_status(status, response);
  });

  const std::size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  int port = static_cast<int>(parse_whole(address.substr(colon + 1)).value_or(0));
  errno = 0;
  if (port == 0) {
    port = server.bind_to_any_port(host.c_str());
  } else if (!server.bind_to_port(host.c_str(), port)) {
    port = -1;
  }
  if (port < 0) {
    return complain("the admin page cannot listen on {}: {}; take another --admin, or --no-admin",
                    address, errno != 0 ? std::strerror(errno) : "no such address");
  }
  admin->address_ = fmt::format("{}:{}", address.substr(0, colon), port);
  Service& service = *admin->service_;
  service.thread = std::thread([&service] {
    service.server.listen_after_bind();
    service.ended = true;
  });
  // A server that is stopped before it runs would run for ever.
  while (!server.is_running() && !service.ended) std::this_thread::yield();
  return admin;
}

}  // namespace membrain
