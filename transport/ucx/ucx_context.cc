#include "transport/ucx/ucx_context.h"

#include <ucp/api/ucp.h>
#include <ucs/debug/log_def.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "base/log.h"
#include "transport/ucx/presets.h"
#include "transport/ucx/route.h"
#include "transport/ucx/socket.h"

namespace membrain {

namespace {

/// The receiver reads, or is sent active messages that it places itself. Of the other schemes am
/// and get_ppln were seen to let the sender write into the receiver's memory (1.13.1, shared
/// memory); the rest is not trusted either. See docs/adr/0003-receiver-driven-rendezvous.md.
constexpr std::string_view kScheme = "get_zcopy";

std::string_view environment(const char* name) noexcept {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

/// UCX's list of network devices; empty: all.
std::string_view devices_of(const UcxContextConfig& config) noexcept {
  if (!config.devices.empty()) return config.devices;
  return config.loopback_only ? "lo" : "";
}

/// What UCP itself reads can be set per context.
Result<> configure(ucp_config_t* settings, const UcxContextConfig& config) {
  const auto set = [settings](const char* name, std::string value) -> ucs_status_t {
    if (!environment(("UCX_" + std::string(name)).c_str()).empty()) return UCS_OK;
    return ucp_config_modify(settings, name, value.c_str());
  };
  ucs_status_t status = set("RNDV_SCHEME", std::string(kScheme));
  // A zero-copy send over TCP that is half written when the peer's end goes is completed twice,
  // which ends the process, and no order of closing prevents it (docs/adr/0011). What shared memory
  // and RDMA read by rendezvous stays zero-copy. Windows send nothing, and their reads would go
  // through UCX's own buffers, piece by piece.
  const bool messages = config.use == UcxContextConfig::Use::messages;
  if (status == UCS_OK && messages) status = set("ZCOPY_THRESH", "inf");
  const std::string devices(devices_of(config));
  if (status == UCS_OK && !devices.empty()) status = set("NET_DEVICES", devices);
  if (status == UCS_OK && !config.transports.empty()) status = set("TLS", config.transports);
  if (status != UCS_OK) return fail(Errc::invalid_argument, "ucp_config_modify", status);
  return {};
}

/// UCX writes its log to stdout, where a program's own output belongs, and calls a peer's death an
/// error, which we report as a value. An operator who sets UCX_LOG_LEVEL gets UCX's log instead.
ucs_log_func_rc_t take_log_line(const char*, unsigned, const char*, ucs_log_level_t level,
                                const ucs_log_component_config_t*, const char* format,
                                va_list arguments) {
  if (level == UCS_LOG_LEVEL_FATAL) return UCS_LOG_FUNC_RC_CONTINUE;  // it ends the process
  if (log_enabled(LogLevel::debug)) {
    std::array<char, 512> text{};
    std::vsnprintf(text.data(), text.size(), format, arguments);
    log(LogLevel::debug, "UCX: {}", text.data());
  }
  return UCS_LOG_FUNC_RC_STOP;
}

void take_over_log() {
  static const bool taken = [] {  // once per process, as UCX's log is
    if (environment("UCX_LOG_LEVEL").empty()) ucs_log_push_handler(&take_log_line);
    return true;
  }();
  static_cast<void>(taken);
}

void log_settings(const UcxContextConfig& config) {
  const auto in_use = [](const char* name, std::string_view otherwise) {
    const std::string_view value = environment(name);
    return value.empty() ? otherwise : value;
  };
  log(LogLevel::info,
      "UCX {}: transports {}, devices {}, rendezvous {}, TCP segments {} out and {} in, keepalive "
      "{}, shared memory error handling {}, RDMA time-out {} and {} retries",
      ucp_get_version_string(),
      in_use("UCX_TLS", config.transports.empty() ? "all" : config.transports),
      in_use("UCX_NET_DEVICES", devices_of(config).empty() ? "all" : devices_of(config)), kScheme,
      environment("UCX_TCP_TX_SEG_SIZE"), environment("UCX_TCP_RX_SEG_SIZE"),
      environment("UCX_KEEPALIVE_INTERVAL"), environment("UCX_POSIX_ERROR_HANDLING"),
      in_use("UCX_RC_TIMEOUT", "none"), in_use("UCX_RC_RETRY_COUNT", "no"));
}

/// One of them brings messages to a queue in shared memory.
bool has_shared_queues(const std::vector<std::string>& transports) {
  return std::ranges::any_of(transports, [](std::string_view transport) {
    constexpr std::array<std::string_view, 3> kQueues = {"posix/", "sysv/", "xpmem/"};
    return std::ranges::any_of(kQueues, [&](auto queue) { return transport.starts_with(queue); });
  });
}

DeviceSupport devices_of(ucp_context_h context) {
  ucp_context_attr_t attributes{};
  attributes.field_mask = UCP_ATTR_FIELD_MEMORY_TYPES;
  DeviceSupport support;
  if (ucp_context_query(context, &attributes) != UCS_OK) return support;
  support.cuda = (attributes.memory_types >> UCS_MEMORY_TYPE_CUDA & 1) != 0;
  unsigned major = 0;
  unsigned minor = 0;
  unsigned release = 0;
  ucp_get_version(&major, &minor, &release);
  support.nics = support.cuda && nics_reach_gpus("/sys", major, minor);
  return support;
}

}  // namespace

Result<std::shared_ptr<UcxContext>> UcxContext::create(UcxContextConfig config) {
  const std::string_view scheme = environment("UCX_RNDV_SCHEME");
  if (!scheme.empty() && scheme != kScheme) {
    log(LogLevel::error,
        "UCX_RNDV_SCHEME={}: a sender could write into memory after it was given back; unset it "
        "(it "
        "is {} then)",
        scheme, kScheme);
    return fail(Errc::invalid_argument,
                "UCX_RNDV_SCHEME: only get_zcopy leaves the receiver in charge");
  }
  take_over_log();
  for (const UcxPreset& preset : presets_for("/sys")) ::setenv(preset.name, preset.value, 0);
  ucp_config_t* settings = nullptr;
  ucs_status_t status = ucp_config_read(nullptr, nullptr, &settings);
  if (status != UCS_OK) return fail(Errc::invalid_argument, "ucp_config_read", status);
  if (const Result<> configured = configure(settings, config); !configured) {
    ucp_config_release(settings);
    return fail(configured.error());
  }
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_MT_WORKERS_SHARED;
  const bool windows = config.use == UcxContextConfig::Use::windows;
  params.features = (windows ? UCP_FEATURE_RMA : UCP_FEATURE_AM) | UCP_FEATURE_WAKEUP;
  params.mt_workers_shared = 1;
  ucp_context_h context = nullptr;
  status = ucp_init(&params, settings, &context);
  ucp_config_release(settings);
  if (status != UCS_OK) return fail(Errc::unavailable, "ucp_init", status);
  if (!windows) log_settings(config);
  std::shared_ptr<UcxContext> made(new UcxContext(context, devices_of(context)));
  made->shares_memory_ = has_shared_queues(made->transports());
  return made;
}

std::vector<std::string> UcxContext::transports() const {
  return transports_in(
      printed([this](std::FILE* stream) { ucp_context_print_info(context_, stream); }));
}

std::string UcxContext::version() {
  return ucp_get_version_string();
}

UcxContext::~UcxContext() {
  ucp_cleanup(context_);
}

}  // namespace membrain
