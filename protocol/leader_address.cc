#include "protocol/leader_address.h"

#include <algorithm>

namespace membrain {

std::string leader_address(std::string_view leader, std::string_view asked) {
  const std::size_t port = leader.rfind(':');
  if (port == std::string_view::npos) return std::string(leader);
  const std::string_view host = leader.substr(0, port);
  if (host != "0.0.0.0" && host != "[::]") return std::string(leader);
  const std::string_view its_host = asked.substr(0, std::min(asked.rfind(':'), asked.size()));
  return std::string(its_host) + std::string(leader.substr(port));
}

}  // namespace membrain
