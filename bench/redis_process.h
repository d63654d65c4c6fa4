// A Redis server of the benchmark's own: started on a free port of loopback, ended with it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "tools/outcome.h"

namespace membrain {

/// Keeps nothing on disk, listens on 127.0.0.1 alone.
///
/// Ownership  Destroying it kills the process; the kernel does if this process dies first.
/// Threads    The thread that starts it must live as long as it does.
class RedisProcess {
 public:
  /// Returns when it takes connections; complains, with the package to install, if there is no
  /// redis-server.
  static Outcome<std::unique_ptr<RedisProcess>> start();
  ~RedisProcess();
  RedisProcess(const RedisProcess&) = delete;
  RedisProcess& operator=(const RedisProcess&) = delete;

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }

  // For the record.
  [[nodiscard]] static std::string version();  ///< "7.0.15", or that there is none
  [[nodiscard]] static std::string command_line(const std::string& port);

 private:
  RedisProcess() = default;
  /// False if it ended, or took no connection in time: the port may have been somebody's.
  bool run();

  pid_t pid_ = -1;
  std::uint16_t port_ = 0;
};

}  // namespace membrain
