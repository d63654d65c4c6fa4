// What UCX prints, as text: there is no other way to ask 1.13 what it has chosen.
#pragma once

#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace membrain {

/// What `print` writes.
[[nodiscard]] std::string printed(const std::function<void(std::FILE*)>& print);

/// From `ucp_ep_print_info`: the transports of an endpoint's lanes, and how active messages of
/// which size go. Empty if it prints something else.
[[nodiscard]] std::string route_in(std::string_view endpoint_info);

/// From `ucp_context_print_info`: its resources, e.g. "tcp/eth0", "rc_mlx5/mlx5_0:1".
[[nodiscard]] std::vector<std::string> transports_in(std::string_view context_info);

/// Whether one of these transports uses a port of an RDMA device ("mlx5_0", 1); port 0: any of it.
[[nodiscard]] bool uses_port(const std::vector<std::string>& transports, std::string_view device,
                             int port);

}  // namespace membrain
