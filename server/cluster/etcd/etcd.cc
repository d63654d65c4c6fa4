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
constexpr unsigned kCertificatesSeconds = 5;  ///< after which certificates may be new ones

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

/// Certificates are renewed while servers run.
std::shared_ptr<grpc::ChannelCredentials> credentials(const EtcdConfig& config, bool tls) {
  if (!tls) return grpc::InsecureChannelCredentials();
  grpc::experimental::TlsChannelCredentialsOptions options;
  const bool known = !config.ca_file.empty();
  const bool ours = !config.cert_file.empty();
  if (known || ours) {
    options.set_certificate_provider(
        std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
            config.key_file, config.cert_file, config.ca_file, kCertificatesSeconds));
  }
  if (known) options.watch_root_certs();
  if (ours) options.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsCredentials(options);
}

std::shared_ptr<grpc::Channel> channel_to(const Endpoint& endpoint, const EtcdConfig& config) {
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
  return grpc::CreateCustomChannel(endpoint.target, credentials(config, endpoint.tls), arguments);
}

}  // namespace

Result<std::unique_ptr<Coordination>> make_etcd_coordination(Loop& loop, EtcdConfig config) {
  if (config.cert_file.empty() != config.key_file.empty()) {
    return fail(Errc::invalid_argument, "a certificate for etcd and its key go together");
  }
  const auto shared = std::make_shared<const EtcdConfig>(std::move(config));
  std::vector<EtcdMember> members;
  for (const std::string& text : shared->endpoints) {
    const Result<Endpoint> endpoint = endpoint_of(text);
    if (!endpoint) return fail(endpoint.error());
    members.emplace_back(text, [shared, at = *endpoint] { return channel_to(at, *shared); });
  }
  if (members.empty()) return fail(Errc::invalid_argument, "no etcd endpoint was given");
  return std::make_unique<EtcdCoordination>(loop, std::move(members));
}

}  // namespace membrain
