#include "transport/nccl/communicator.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace membrain::nccl {

namespace {

/// Between two looks at what takes a while: short at first.
class Pauses {
 public:
  [[nodiscard]] std::chrono::microseconds next() {
    const std::chrono::microseconds pause = next_;
    next_ = std::min(2 * next_, kLongest);
    return pause;
  }

 private:
  static constexpr std::chrono::microseconds kLongest{500};
  std::chrono::microseconds next_{10};
};

}  // namespace

Result<std::unique_ptr<Communicator>> Communicator::create(
    std::shared_ptr<const Library> library, std::shared_ptr<const cuda::Device> device,
    const UniqueId& id, std::uint32_t rank, std::uint32_t size, Patience& patience) {
  std::unique_ptr<Communicator> made(
      new Communicator(std::move(library), std::move(device), rank, size));
  Config config;
  config.blocking = 0;
  const cuda::Device::Current current(*made->device_);
  const Status status = made->library_->api().init_rank(
      &made->comm_, static_cast<std::int32_t>(size), id, static_cast<std::int32_t>(rank), &config);
  const Result<> joined = made->settled(status, "ncclCommInitRankConfig", patience);
  if (!joined) return fail(joined.error());
  return made;
}

Communicator::~Communicator() {
  if (comm_ == nullptr) return;
  const cuda::Device::Current current(*device_);
  const Status status = library_->api().abort(comm_);
  if (status != kSuccess && status != kInProgress) {
    log(LogLevel::warn, "NCCL: ncclCommAbort: {}", library_->text(status));
  }
}

Result<> Communicator::broken(Status status, const char* call) const {
  log(LogLevel::warn, "NCCL: {} by member {} of {}: {}: {}", call, rank_, size_,
      library_->text(status), library_->api().last_error(comm_));
  const bool ours = status == kInvalidArgument || status == kInvalidUsage;
  return fail(ours ? Errc::invalid_argument : Errc::peer_lost, "NCCL failed", status);
}

Result<> Communicator::settled(Status status, const char* call, Patience& patience) {
  Pauses pauses;
  while (status == kInProgress) {
    const Status asked = library_->api().async_error(comm_, &status);
    if (asked != kSuccess) return broken(asked, "ncclCommGetAsyncError");
    if (status != kInProgress) break;
    if (patience.over(pauses.next())) return fail(Errc::timed_out, "a member did not come in time");
  }
  return status == kSuccess ? Result<>{} : broken(status, call);
}

Result<> Communicator::broadcast(cuda::Address buffer, std::uint64_t bytes, std::uint32_t root,
                                 cuda::Stream& stream, Patience& patience) {
  const cuda::Device::Current current(*device_);
  auto* const memory = reinterpret_cast<void*>(buffer);
  const Status status =
      library_->api().broadcast(memory, memory, static_cast<std::size_t>(bytes), kUint8,
                                static_cast<std::int32_t>(root), comm_, stream.raw());
  return settled(status, "ncclBroadcast", patience);
}

Result<> Communicator::reached(const cuda::Event& mark, Patience& patience) {
  Pauses pauses;
  while (true) {
    const Result<bool> done = mark.done();
    if (!done) return fail(done.error());
    if (*done) return {};
    Status status = kSuccess;
    const Status asked = library_->api().async_error(comm_, &status);
    if (asked != kSuccess) return broken(asked, "ncclCommGetAsyncError");
    if (status != kSuccess && status != kInProgress) return broken(status, "a broadcast");
    if (patience.over(pauses.next()))
      return fail(Errc::timed_out, "a broadcast did not end in time");
  }
}

}  // namespace membrain::nccl
