// The admin page of a server: small answers over HTTP, at a low rate.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "tools/outcome.h"

namespace membrain {

/// Serves `GET /healthz` ("ok", or 503 if the service does not answer) and `GET /status` (a JSON
/// object of counters) from threads of its own.
///
/// Ownership  Destroying it closes the port and waits for requests under way.
/// Threads    `counters` is called on the admin threads.
class AdminHttp {
 public:
  using Counters = std::map<std::string, std::uint64_t>;
  /// The service's counters, or why there are none; bounded in time.
  using Source = std::function<Outcome<Counters>()>;

  /// Listens on `address` ("host:port", port 0: any).
  static Outcome<std::unique_ptr<AdminHttp>> start(const std::string& address, Source counters);
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
