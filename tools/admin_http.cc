#include "tools/admin_http.h"

#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "transport/ucx/socket.h"

namespace membrain {
namespace {

constexpr std::chrono::seconds kPatience(2);  ///< for a whole connection
constexpr std::chrono::milliseconds kLook(100);
constexpr unsigned kConnections = 64;
constexpr unsigned kConnectionsOfAHost = 16;
constexpr std::size_t kRequestBytes = 8192;  ///< of headers and the like, for each connection

struct Page {
  unsigned status = MHD_HTTP_OK;
  const char* type = "text/plain";
  std::string text;
};

Page health_page(const AdminHttp::Source& status) {
  const Outcome<std::string> text = status();
  if (text) return {MHD_HTTP_OK, "text/plain", "ok\n"};
  return {MHD_HTTP_SERVICE_UNAVAILABLE, "text/plain", text.error().text + "\n"};
}

Page status_page(const AdminHttp::Source& status) {
  Outcome<std::string> text = status();
  if (text) return {MHD_HTTP_OK, "application/json", std::move(*text)};
  return {MHD_HTTP_SERVICE_UNAVAILABLE, "application/json",
          nlohmann::json{{"error", text.error().text}}.dump() + "\n"};
}

Page page(const AdminHttp::Source& status, std::string_view path, std::string_view method) {
  if (path != "/healthz" && path != "/status") {
    return {MHD_HTTP_NOT_FOUND, "text/plain", "there are /healthz and /status\n"};
  }
  if (method != "GET" && method != "HEAD") {
    return {MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain", "GET it\n"};
  }
  return path == "/healthz" ? health_page(status) : status_page(status);
}

}  // namespace

/// The library reads and answers requests, on our thread: so whoever takes too long is hung up on
/// in whatever state they are, and stopping waits for nobody.
struct AdminHttp::Service {
  Source status;
  Descriptor wake{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  MHD_Daemon* daemon = nullptr;
  std::map<int, TimePoint> callers;  ///< sockets, and when their time is over
  std::thread thread;

  void run();
  void hang_up_on_the_late();

  static MHD_Result answer(void* self, MHD_Connection* connection, const char* path,
                           const char* method, const char* version, const char* body,
                           std::size_t* body_bytes, void** state) noexcept;
  static void note(void* self, MHD_Connection* connection, void** state,
                   MHD_ConnectionNotificationCode what) noexcept;
};

void AdminHttp::Service::run() {
  ::pthread_setname_np(::pthread_self(), "mb-admin");
  const int work = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
  while (true) {
    MHD_UNSIGNED_LONG_LONG wanted = 0;
    auto patience = static_cast<std::uint64_t>(kLook.count());
    if (MHD_get_timeout(daemon, &wanted) == MHD_YES) {
      patience = std::min<std::uint64_t>(patience, wanted);
    }
    std::array<pollfd, 2> ready{{{work, POLLIN, 0}, {wake.fd(), POLLIN, 0}}};
    ::poll(ready.data(), ready.size(), static_cast<int>(patience));
    if (ready[1].revents != 0) return;
    MHD_run(daemon);
    hang_up_on_the_late();
  }
}

/// The library sees a connection that has ended, and closes it.
void AdminHttp::Service::hang_up_on_the_late() {
  const TimePoint now = SteadyClock().now();
  for (auto& [socket, until] : callers) {
    if (until < now) ::shutdown(socket, SHUT_RDWR);
  }
}

MHD_Result AdminHttp::Service::answer(void* self, MHD_Connection* connection, const char* path,
                                      const char* method, const char*, const char*, std::size_t*,
                                      void**) noexcept {
  try {
    Page made = page(static_cast<Service*>(self)->status, path, method);
    MHD_Response* const response =
        MHD_create_response_from_buffer(made.text.size(), made.text.data(), MHD_RESPMEM_MUST_COPY);
    if (response == nullptr) return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, made.type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    if (made.status == MHD_HTTP_METHOD_NOT_ALLOWED) {
      MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    }
    const MHD_Result queued = MHD_queue_response(connection, made.status, response);
    MHD_destroy_response(response);
    return queued;
  } catch (const std::exception&) {
    return MHD_NO;  // hung up on
  }
}

void AdminHttp::Service::note(void* self, MHD_Connection* connection, void**,
                              MHD_ConnectionNotificationCode what) noexcept {
  auto& callers = static_cast<Service*>(self)->callers;
  const MHD_ConnectionInfo* const info =
      MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  if (info == nullptr) return;
  if (what == MHD_CONNECTION_NOTIFY_STARTED) {
    callers[info->connect_fd] = SteadyClock().now() + kPatience;
  } else {
    callers.erase(info->connect_fd);
  }
}

AdminHttp::AdminHttp() : service_(std::make_unique<Service>()) {}

AdminHttp::~AdminHttp() {
  if (service_->thread.joinable()) {
    static_cast<void>(::eventfd_write(service_->wake.fd(), 1));
    service_->thread.join();
  }
  if (service_->daemon != nullptr) MHD_stop_daemon(service_->daemon);
}

Outcome<std::unique_ptr<AdminHttp>> AdminHttp::start(const std::string& address, Source status) {
  const auto unheard = [&address](const Error& error) {
    return complain("the admin page cannot listen on {}: {}; take another --admin, or --no-admin",
                    address, error.native > 0 ? std::strerror(error.native) : error.context);
  };
  std::unique_ptr<AdminHttp> admin(new AdminHttp);
  Service& service = *admin->service_;
  service.status = std::move(status);
  const Result<SocketAddress> resolved = resolve(address);
  if (!resolved) return unheard(resolved.error());
  Result<Descriptor> socket = open_listener(*resolved);
  if (!socket) return unheard(socket.error());
  admin->address_ = with_port(address, port_of(*socket));
  // clang-format off
  service.daemon = MHD_start_daemon(
      MHD_USE_EPOLL, 0, nullptr, nullptr, &Service::answer, &service,
      MHD_OPTION_LISTEN_SOCKET, static_cast<MHD_socket>(socket->fd()),
      MHD_OPTION_CONNECTION_LIMIT, kConnections,
      MHD_OPTION_PER_IP_CONNECTION_LIMIT, kConnectionsOfAHost,
      MHD_OPTION_CONNECTION_MEMORY_LIMIT, kRequestBytes,
      MHD_OPTION_NOTIFY_CONNECTION, &Service::note, &service,
      MHD_OPTION_END);
  // clang-format on
  if (!service.wake || service.daemon == nullptr) {
    return unheard(Error{Errc::out_of_capacity, errno, "libmicrohttpd"});
  }
  static_cast<void>(socket->release());  // the library closes it
  service.thread = std::thread([&service] { service.run(); });
  return admin;
}

}  // namespace membrain
