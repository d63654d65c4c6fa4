#include "bench/raw_get.h"

#include <ucp/api/ucp.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "bench/forked.h"
#include "bench/page_memory.h"
#include "bench/raw_turning.h"

namespace membrain {

namespace {

/// A context, a worker, registered memory, and an endpoint to the other one.
struct Party {
  ucp_context_h context = nullptr;
  ucp_worker_h worker = nullptr;
  ucp_ep_h endpoint = nullptr;
  ucp_mem_h region = nullptr;
  PageMemory memory;

  bool open(const RawGetConfig& config) {
    ucp_config_t* settings = nullptr;
    if (ucp_config_read(nullptr, nullptr, &settings) != UCS_OK) return false;
    bool good = ucp_config_modify(settings, "TLS", config.transports) == UCS_OK;
    ucp_params_t params{};
    params.field_mask = UCP_PARAM_FIELD_FEATURES;
    params.features = UCP_FEATURE_RMA | UCP_FEATURE_WAKEUP;
    good = good && ucp_init(&params, settings, &context) == UCS_OK;
    ucp_config_release(settings);
    if (!good) return false;
    const ucp_worker_params_t single{};
    if (ucp_worker_create(context, &single, &worker) != UCS_OK) return false;
    memory.resize(config.block_bytes * config.blocks);
    ucp_mem_map_params_t map{};
    map.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH;
    map.address = memory.data();
    map.length = memory.size();
    return ucp_mem_map(context, &map, &region) == UCS_OK;
  }
  bool connect(const Party& other) {
    ucp_address_t* address = nullptr;
    std::size_t size = 0;
    if (ucp_worker_get_address(other.worker, &address, &size) != UCS_OK) return false;
    ucp_ep_params_t params{};
    params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS;
    params.address = address;
    const bool made = ucp_ep_create(worker, &params, &endpoint) == UCS_OK;
    ucp_worker_release_address(other.worker, address);
    return made;
  }
};

/// What the child does. Nothing is taken down: the process ends.
class Reader {
 public:
  explicit Reader(const RawGetConfig& config) : config_(config) {}

  bool open() {
    if (!target_.open(config_) || !reader_.open(config_)) return false;
    for (std::size_t i = 0; i < target_.memory.size(); ++i) {
      target_.memory[i] = static_cast<std::byte>(i * 31 + (i >> 8));
    }
    if (!reader_.connect(target_) || !target_.connect(reader_)) return false;
    void* packed = nullptr;
    std::size_t size = 0;
    if (ucp_rkey_pack(target_.context, target_.region, &packed, &size) != UCS_OK) return false;
    const bool unpacked = ucp_ep_rkey_unpack(reader_.endpoint, packed, &key_) == UCS_OK;
    ucp_rkey_buffer_release(packed);
    thread_ = std::thread([this] {
      turn_while(target_.worker, [this] { return !stop_.load(std::memory_order_relaxed); });
    });
    return unpacked;
  }
  ~Reader() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }

  bool run(std::size_t blocks) {
    asked_ = done_ = 0;
    turn_while(reader_.worker, [this, blocks] {
      for (; asked_ < blocks && asked_ < done_ + config_.window; ++asked_) read();
      return done_ < blocks && good_;
    });
    return good_;
  }
  [[nodiscard]] bool intact() const { return target_.memory == reader_.memory; }

 private:
  void read() {
    const std::size_t at = asked_ % config_.blocks * config_.block_bytes;
    ucp_request_param_t param{};
    param.op_attr_mask =
        UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_MEMH;
    param.cb.send = [](void* request, ucs_status_t status, void* self) {
      ucp_request_free(request);
      static_cast<Reader*>(self)->landed(status);
    };
    param.user_data = this;
    param.memh = reader_.region;
    const ucs_status_ptr_t request =
        ucp_get_nbx(reader_.endpoint, reader_.memory.data() + at, config_.block_bytes,
                    reinterpret_cast<std::uint64_t>(target_.memory.data()) + at, key_, &param);
    if (!UCS_PTR_IS_PTR(request)) landed(UCS_PTR_RAW_STATUS(request));
  }
  void landed(ucs_status_t status) {
    if (status != UCS_OK) good_ = false;
    ++done_;
  }

  RawGetConfig config_;
  Party target_;
  Party reader_;
  ucp_rkey_h key_ = nullptr;
  std::size_t asked_ = 0;
  std::size_t done_ = 0;
  bool good_ = true;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

/// Answers every order, a number of blocks, with 1 or 0.
int serve(const RawGetConfig& config, OrderWire& orders) {
  std::unique_ptr<Reader> reader;
  std::uint64_t blocks = 0;
  while (orders.receive(blocks)) {
    bool good = true;
    if (!reader) {
      reader = std::make_unique<Reader>(config);
      good = reader->open() && reader->run(config.blocks) && reader->intact();
    }
    good = good && reader->run(blocks);
    if (!orders.send(static_cast<std::uint64_t>(good))) break;
  }
  return 0;
}

class ForkedGet final : public RawGet {
 public:
  explicit ForkedGet(const RawGetConfig& config)
      : child_([&config](OrderWire& orders) { return serve(config, orders); }) {}
  Result<> run(std::size_t blocks) override {
    std::uint64_t good = 0;
    const bool answered =
        child_.wire().send(static_cast<std::uint64_t>(blocks)) && child_.wire().receive(good);
    if (!answered || good == 0) return fail(Errc::peer_lost, "the child's reads failed");
    return {};
  }

 private:
  Forked child_;
};

}  // namespace

std::unique_ptr<RawGet> RawGet::fork(const RawGetConfig& config) {
  return std::make_unique<ForkedGet>(config);
}

}  // namespace membrain
