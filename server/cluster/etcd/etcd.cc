#include "server/cluster/etcd/etcd.h"

#include <string_view>
#include <utility>

#include "server/cluster/etcd/etcd_coordination.h"

namespace membrain {

namespace {

// A member that went away is tried again soon, and a connection that has died is noticed: gRPC's
// own bounds are two minutes and never.
constexpr int kLeastBackoffMs = 50;
constexpr int kMostBackoffMs = 500;
constexpr int kKeepaliveMs = 2000;
constexpr int kKeepalivePatienceMs = 1000;

struct Endpoint {
  std::string target;
  bool tls = false;
};

Result<Endpoint> endpoint_of(std::string_view text) {
  Endpoint endpoint;
  if (text.starts_with("https://")) {
    endpoint.tls = true;
    text.remove_prefix(8);
  } else if (text.starts_with("http://")) {
    text.remove_prefix(7);
  }
  if (text.ends_with('/')) text.remove_suffix(1);
  const std::size_t colon = text.rfind(':');
  const bool plain = text.find_first_of("/?# ") == std::string_view::npos;
  if (!plain || colon == std::string_view::npos || colon == 0 || colon + 1 == text.size()) {
    return fail(Errc::invalid_argument,
                "an etcd endpoint is http://HOST:PORT or https://HOST:PORT");
  }
  endpoint.target = std::string(text);
  return endpoint;
}

std::shared_ptr<grpc::ChannelCredentials> credentials(const EtcdConfig& config, bool tls) {
  if (!tls) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = config.ca;
  options.pem_cert_chain = config.cert;
  options.pem_private_key = config.key;
  return grpc::SslCredentials(options);
}

}  // namespace

Result<std::unique_ptr<Coordination>> make_etcd_coordination(Loop& loop, EtcdConfig config) {
  std::vector<EtcdMember> members;
  for (const std::string& text : config.endpoints) {
    const Result<Endpoint> endpoint = endpoint_of(text);
    if (!endpoint) return fail(endpoint.error());
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kLeastBackoffMs);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kLeastBackoffMs);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMostBackoffMs);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepalivePatienceMs);
    arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    // Channels of one target share a connection otherwise, and with it a broken one.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    members.emplace_back(
        grpc::CreateCustomChannel(endpoint->target, credentials(config, endpoint->tls), arguments));
  }
  if (members.empty()) return fail(Errc::invalid_argument, "no etcd endpoint was given");
  return std::make_unique<EtcdCoordination>(loop, std::move(members));
}

}  // namespace membrain
