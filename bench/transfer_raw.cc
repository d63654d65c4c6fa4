#include "bench/transfer_raw.h"

#include <ucp/api/ucp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "bench/page_memory.h"
#include "bench/raw_turning.h"
#include "transport/ucx/connection.h"
#include "transport/ucx/region.h"
#include "transport/ucx/worker.h"

namespace membrain {

namespace {

constexpr unsigned kRequestId = 1;
constexpr unsigned kBlockId = 2;

/// What a request, and the header of every answer, says.
struct Run {
  std::uint64_t slot;
  std::uint64_t blocks;
};

void free_request(void* request, ucs_status_t, void*) {
  ucp_request_free(request);
}

void on_lost(void*, ucp_ep_h, ucs_status_t) {}

/// One side: a worker, an endpoint, and memory for a window of blocks.
struct Side {
  Result<> open(std::shared_ptr<UcxContext> context, std::size_t bytes) {
    Result<std::unique_ptr<UcxWorker>> made = UcxWorker::create(context);
    if (!made) return fail(made.error());
    worker = std::move(*made);
    memory.resize(bytes);
    Result<std::unique_ptr<Region>> registered =
        UcxRegion::create(std::move(context), memory, MemoryKind::host);
    if (!registered) return fail(registered.error());
    region = std::move(*registered);
    return {};
  }
  /// A handler that must take the data, or leave it to a rendezvous, before it returns: what the
  /// fabric keeps for later costs UCX a copy.
  Result<> handle(unsigned id, ucp_am_recv_callback_t handler, void* argument) {
    ucp_am_handler_param_t params{};
    params.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
                        UCP_AM_HANDLER_PARAM_FIELD_ARG;
    params.id = id;
    params.cb = handler;
    params.arg = argument;
    const ucs_status_t status = ucp_worker_set_am_recv_handler(worker->handle(), &params);
    if (status != UCS_OK) return fail(Errc::unavailable, "ucp_worker_set_am_recv_handler", status);
    return {};
  }
  Result<> connect(const Side& other) {
    const Result<ucp_ep_h> made = worker->connect(other.worker->address(), &on_lost, nullptr);
    if (!made) return fail(made.error());
    endpoint = *made;
    return {};
  }
  [[nodiscard]] ucp_request_param_t block_param(std::size_t at, std::size_t size,
                                                void* user) const noexcept {
    ucp_request_param_t param{};
    param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                         UCP_OP_ATTR_FIELD_MEMH | UCP_OP_ATTR_FIELD_MEMORY_TYPE |
                         UCP_OP_ATTR_FIELD_DATATYPE;
    param.datatype = ucp_dt_make_contig(1);
    param.user_data = user;
    param.memory_type = UCS_MEMORY_TYPE_HOST;
    const Segment segment{const_cast<std::byte*>(memory.data()) + at, size, region.get()};
    param.memh = UcxRegion::handle_for(segment, worker->context());
    return param;
  }

  PageMemory memory;
  std::unique_ptr<Region> region;
  std::unique_ptr<UcxWorker> worker;
  ucp_ep_h endpoint = nullptr;
};

class TwoThreads final : public RawTransfer {
 public:
  explicit TwoThreads(const RawTransferConfig& config) : config_(config) {}
  ~TwoThreads() override;
  Result<> open();
  Result<> run(std::size_t blocks) override;
  [[nodiscard]] std::string_view lane() const noexcept override { return lane_; }
  [[nodiscard]] bool intact() const noexcept override { return server_.memory == client_.memory; }

 private:
  static ucs_status_t on_request(void* self, const void* header, std::size_t, void*, std::size_t,
                                 const ucp_am_recv_param_t*);
  static ucs_status_t on_block(void* self, const void* header, std::size_t, void* data,
                               std::size_t size, const ucp_am_recv_param_t* param);
  static void on_received(void* request, ucs_status_t status, std::size_t, void* self);
  void answer(const Run& run);
  void send(const Run& run);
  void request(std::uint64_t slot);
  void receive(const Run& run, void* data);
  void landed(std::uint64_t blocks, ucs_status_t status);
  void quieten();

  RawTransferConfig config_;
  std::string lane_;
  Side server_;
  Side client_;
  std::vector<Run> wanted_;  ///< by the server's handler: answered outside of it
  std::vector<Run> answering_;
  std::vector<Run> asks_;             ///< headers, by slot: live until their sends have ended
  std::vector<Run> answers_;          ///< likewise
  std::vector<ucp_dt_iov_t> pieces_;  ///< by slot
  std::vector<std::pair<Run, void*>> offered_;
  std::vector<std::pair<Run, void*>> receiving_;
  std::size_t asked_ = 0;
  std::size_t done_ = 0;
  ucs_status_t status_ = UCS_OK;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

ucs_status_t TwoThreads::on_request(void* self, const void* header, std::size_t, void*, std::size_t,
                                    const ucp_am_recv_param_t*) {
  Run run{};
  std::memcpy(&run, header, sizeof run);
  static_cast<TwoThreads*>(self)->wanted_.push_back(run);
  return UCS_OK;
}

ucs_status_t TwoThreads::on_block(void* self, const void* header, std::size_t, void* data,
                                  std::size_t size, const ucp_am_recv_param_t* param) {
  TwoThreads& transfer = *static_cast<TwoThreads*>(self);
  Run run{};
  std::memcpy(&run, header, sizeof run);
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0) {
    transfer.offered_.emplace_back(run, data);
    return UCS_INPROGRESS;
  }
  std::memcpy(transfer.client_.memory.data() + run.slot * transfer.config_.block_bytes, data, size);
  transfer.landed(run.blocks, UCS_OK);
  return UCS_OK;
}

void TwoThreads::on_received(void* request, ucs_status_t status, std::size_t size, void* self) {
  ucp_request_free(request);
  TwoThreads& transfer = *static_cast<TwoThreads*>(self);
  transfer.landed(size / transfer.config_.block_bytes, status);
}

void TwoThreads::landed(std::uint64_t blocks, ucs_status_t status) {
  if (status != UCS_OK) status_ = status;
  done_ += blocks;
}

void TwoThreads::answer(const Run& run) {
  if (config_.answer != RawAnswer::message_per_block) return send(run);
  for (std::uint64_t i = 0; i < run.blocks; ++i) send({run.slot + i, 1});
}

void TwoThreads::send(const Run& run) {
  Run& header = answers_[run.slot] = run;
  const std::size_t at = run.slot * config_.block_bytes;
  const std::size_t size = run.blocks * config_.block_bytes;
  ucp_request_param_t param = server_.block_param(at, size, nullptr);
  param.cb.send = &free_request;
  param.op_attr_mask |= UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = Connection::flags_for(size, lane_);
  if (config_.answer == RawAnswer::gathered_message) {
    param.op_attr_mask &= ~static_cast<std::uint32_t>(UCP_OP_ATTR_FIELD_MEMH);
    param.datatype = ucp_dt_make_iov();
    ucp_am_send_nbx(server_.endpoint, kBlockId, &header, sizeof header, &pieces_[run.slot],
                    run.blocks, &param);
    return;
  }
  ucp_am_send_nbx(server_.endpoint, kBlockId, &header, sizeof header, server_.memory.data() + at,
                  size, &param);
}

void TwoThreads::request(std::uint64_t slot) {
  Run& header = asks_[slot] = {slot, config_.batch};
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK;
  param.cb.send = &free_request;
  ucp_am_send_nbx(client_.endpoint, kRequestId, &header, sizeof header, nullptr, 0, &param);
}

Result<> TwoThreads::open() {
  UcxContextConfig settings;
  settings.transports = config_.transports;
  const Result<std::shared_ptr<UcxContext>> context = UcxContext::create(settings);
  if (!context) return fail(context.error());
  const std::size_t least = std::max(config_.blocks, config_.window * config_.batch);
  const std::size_t blocks = (least + config_.batch - 1) / config_.batch * config_.batch;
  const std::size_t bytes = config_.block_bytes * blocks;
  for (Side* side : {&server_, &client_}) {
    if (const Result<> opened = side->open(*context, bytes); !opened) return opened;
  }
  for (std::size_t i = 0; i < bytes; ++i) {
    server_.memory[i] = static_cast<std::byte>(i * 31 + (i >> 8));
  }
  asks_.resize(blocks);
  answers_.resize(blocks);
  for (std::size_t i = 0; i < blocks; ++i) {
    pieces_.push_back({server_.memory.data() + i * config_.block_bytes, config_.block_bytes});
  }
  Result<> ready = server_.handle(kRequestId, &on_request, this);
  if (ready) ready = client_.handle(kBlockId, &on_block, this);
  if (ready) ready = server_.connect(client_);
  if (ready) ready = client_.connect(server_);
  if (!ready) return ready;
  lane_ = lane_of(describe_endpoint(client_.endpoint));
  thread_ = std::thread([this] {
    turn_while(server_.worker->handle(), [this] {
      answering_.swap(wanted_);
      for (const Run& run : answering_) answer(run);
      answering_.clear();
      return !stop_.load(std::memory_order_relaxed);
    });
  });
  return {};
}

TwoThreads::~TwoThreads() {
  stop_ = true;
  if (thread_.joinable()) {
    ucp_worker_signal(server_.worker->handle());
    thread_.join();
  }
  // The last blocks' sends end when the client's word of their arrival has come in.
  for (Side* side : {&client_, &server_}) {
    if (side->endpoint == nullptr) continue;
    ucp_request_param_t param{};
    param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_FLAGS;
    param.flags = UCP_EP_CLOSE_FLAG_FORCE;
    param.cb.send = &free_request;
    quieten();
    ucp_ep_close_nbx(side->endpoint, &param);
  }
  quieten();
}

/// Progresses both workers for a while: twenty milliseconds, the fabric's time to settle.
void TwoThreads::quieten() {
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
  while (std::chrono::steady_clock::now() < until) {
    for (Side* side : {&client_, &server_}) {
      if (side->worker) ucp_worker_progress(side->worker->handle());
    }
  }
}

void TwoThreads::receive(const Run& run, void* data) {
  const std::size_t at = run.slot * config_.block_bytes;
  const std::size_t size = run.blocks * config_.block_bytes;
  ucp_request_param_t param = client_.block_param(at, size, this);
  param.cb.recv_am = &on_received;
  const ucs_status_ptr_t request = ucp_am_recv_data_nbx(client_.worker->handle(), data,
                                                        client_.memory.data() + at, size, &param);
  if (!UCS_PTR_IS_PTR(request)) landed(run.blocks, UCS_PTR_RAW_STATUS(request));
}

Result<> TwoThreads::run(std::size_t blocks) {
  asked_ = done_ = 0;
  turn_while(client_.worker->handle(), [this, blocks] {
    for (; asked_ < blocks && asked_ < done_ + config_.window * config_.batch;
         asked_ += config_.batch) {
      request(asked_ % asks_.size());
    }
    receiving_.swap(offered_);
    for (const auto& [run, data] : receiving_) receive(run, data);
    receiving_.clear();
    return done_ < blocks && status_ == UCS_OK;
  });
  if (status_ != UCS_OK) return fail(Errc::peer_lost, "raw transfer", status_);
  return {};
}

}  // namespace

Result<std::unique_ptr<RawTransfer>> RawTransfer::create(const RawTransferConfig& config) {
  auto transfer = std::make_unique<TwoThreads>(config);
  if (const Result<> opened = transfer->open(); !opened) return fail(opened.error());
  return std::unique_ptr<RawTransfer>(std::move(transfer));
}

}  // namespace membrain
