// The admin page of a server: small answers over HTTP, at a low rate.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "tools/outcome.h"

namespace membrain {

/// Serves `GET /healthz` ("ok", or 503 if the service does not answer) and `GET /status` (what the
/// service says of itself, a JSON object) from a thread of its own. A connection gets one answer
/// and two seconds in all; there are 64 at a time, 16 of them from one host, with 8 KiB each.
///
/// Ownership  Destroying it closes the port and whatever is connected; at most it waits for
///            `status`.
/// Threads    `status` is called on the admin thread.
class AdminHttp {
 public:
  /// The service's status as JSON, or why there is none; bounded in time.
  using Source = std::function<Outcome<std::string>()>;

  /// Listens on `address` ("host:port", port 0: any).
  static Outcome<std::unique_ptr<AdminHttp>> start(const std::string& address, Source status);
  ~AdminHttp();
  AdminHttp(const AdminHttp&) = delete;
  AdminHttp& operator=(const AdminHttp&) = delete;

  /// With the real port.
  [[nodiscard]] const std::string& address() const noexcept { return address_; }

 private:
  struct Service;
  AdminHttp();

  std::unique_ptr<Service> service_;
  std::string address_;
};

}  // namespace membrain
