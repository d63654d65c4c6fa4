// The other process of a test: on this host, or on another one where an agent starts it.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "transport/fabric.h"

namespace membrain::ucx_test {

/// This very program, started again as a server of blocks on a lane.
class ServedProcess {
 public:
  /// On the host of the agent that MEMBRAIN_TEST_AGENT names ("host:port"), or else on this one.
  static std::unique_ptr<ServedProcess> start(const std::string& lane);

  virtual ~ServedProcess() = default;  ///< kills it
  [[nodiscard]] virtual Address address() const = 0;
  virtual void signal(int number) = 0;
  virtual int end() = 0;  ///< asks it to end, and waits; its exit status
  /// The TCP ports on which it listens, its public one aside: UCX's. None if it is elsewhere.
  [[nodiscard]] virtual std::set<std::uint16_t> data_ports() const { return {}; }
};

/// The agent's address, or empty.
std::string agent_address();
/// Has the agent's host run a line of shell, without waiting for its end: it may take the network
/// away, or the host.
void run_on_agents_host(const std::string& line);

/// Serves tests on another host until it is killed: starts, signals and ends processes for them.
int run_agent(const Address& address);

/// What main() does with --serve=LANE@ADDRESS or --agent=ADDRESS; -1 if it is neither.
int serve_or_assist(int argc, char** argv);

}  // namespace membrain::ucx_test
