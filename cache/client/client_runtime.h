// What is behind a Client: threads, UCX fabrics and waiting around a ClientCore, and how calls get
// to them. Nothing else of the client knows of any of them.
#pragma once

#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "cache/client/cancel_token.h"
#include "cache/client/client_core.h"
#include "cache/client/copy_queue.h"
#include "cache/client/mapped_fetch.h"
#include "cache/client/operation.h"
#include "cache/share/sharer.h"
#include "membrain/client.h"
#include "transport/loop.h"
#include "transport/task.h"
#include "transport/ucx/ucx_context.h"
#include "transport/verbs/port_events.h"
#include "transport/windows.h"

namespace membrain {

/// The checked parts of one operation, for whoever takes it back. The data loop's.
struct CheckedParts {
  std::vector<std::shared_ptr<CancelToken>> tokens;
  bool cancelled = false;

  std::shared_ptr<CancelToken> add() {
    tokens.push_back(std::make_shared<CancelToken>());
    if (cancelled) tokens.back()->request();
    return tokens.back();
  }
  void cancel() {
    cancelled = true;
    for (const std::shared_ptr<CancelToken>& token : tokens) token->request();
  }
};

/// What a Client owns. One loop for both fabrics with `Threads::caller`, else one each.
struct Client::Runtime {
  SteadyClock clock;
  Loop control_loop{clock};
  Loop own_data_loop{clock};
  bool caller_drives = false;
  std::shared_ptr<UcxContext> context;
  std::unique_ptr<Fabric> control;
  std::unique_ptr<Fabric> data;
  std::vector<std::string> transports;                    ///< of both
  std::vector<std::shared_ptr<const cuda::Device>> gpus;  ///< that the client was told of
  std::unique_ptr<ClientCore> core;
  std::unique_ptr<Fabric> share_control;  ///< of the sharer, and so is the next
  std::unique_ptr<Fabric> share_data;
  std::unique_ptr<Sharer> sharer;            ///< null if nothing is shared
  std::unique_ptr<verbs::PortEvents> ports;  ///< on the data loop
  std::unique_ptr<CopyQueue> copies;
  bool started = false;
  std::jthread control_thread;
  std::jthread data_thread;

  [[nodiscard]] Loop& data_loop() noexcept { return caller_drives ? control_loop : own_data_loop; }

  static Result<std::unique_ptr<Runtime>> open(ClientConfig config);
  /// On the loop's thread, or before it turns.
  Result<std::unique_ptr<Fabric>> make_fabric(const ClientConfig& config, Loop& loop);
  /// The same for blocks: with the first GPU's context current whenever UCX works.
  Result<std::unique_ptr<Fabric>> make_data_fabric(const ClientConfig& config);
  Result<> open_gpus(const ClientConfig& config);
  /// The memory of the first GPU goes straight into UCX: one context can be current.
  [[nodiscard]] bool straight() const noexcept { return !gpus.empty() && context->devices().cuda; }
  Result<> make_fabrics(const ClientConfig& config);
  /// Lanes of `gpus` with `slots` staging slots each, whose blocks `fabric` moves.
  Result<std::vector<std::unique_ptr<DeviceLane>>> open_lanes(const ClientConfig& config,
                                                              std::uint32_t slots, Fabric& fabric);
  /// Before the loops run.
  Result<> make_sharer(const ClientConfig& config);
  /// Null if they are not asked for, or cannot be had.
  std::unique_ptr<Windows> make_windows(const ClientConfig& config);
  /// Tells the core of RDMA ports that go down.
  void watch_ports();
  Result<> start_threads();
  void stop_threads() noexcept;

  /// Starts `work` on `loop`; its result will be in `outcome`.
  template <class T>
  void submit(Loop& loop, Task<Result<T>> work, std::shared_ptr<detail::Outcome<T>> outcome);
  template <class T>
  std::shared_ptr<detail::Outcome<T>> new_outcome();
  /// The same, as an operation that nothing takes back.
  template <class T>
  Operation<T> start(Loop& loop, Task<Result<T>> work);
  /// Starts `work` on `loop` and waits for its result.
  template <class T>
  Result<T> run(Loop& loop, Task<Result<T>> work);
  /// Starts a transfer on the data loop, which `cancel` takes back.
  std::shared_ptr<detail::Outcome<TransferReport>> run_transfer(
      Task<Result<TransferReport>> work, std::shared_ptr<CancelToken> cancel);

  /// A fetch of which some is mapped. Null if nothing is.
  struct Mixed {
    std::shared_ptr<MixedFetch> fetch;
    std::shared_ptr<CheckedParts> parts;
  };
  /// Makes one. If it yields null, the items and options are still the caller's.
  Mixed mix(const std::shared_ptr<const Match::State>& match, FetchList& items,
            TransferOptions& options, MixedFetch::Reported reported);
  /// The same, whose report will be in the outcome, too.
  std::pair<Mixed, std::shared_ptr<detail::Outcome<TransferReport>>> mix_operation(
      const Match& match, FetchList& items, TransferOptions& options);
  /// Begins it, with a copy thread if there is one.
  void start_mixed(const Mixed& mixed);
  /// HostFetch: on the data loop.
  Task<Result<TransferReport>> fetch_to_host(std::shared_ptr<const Match::State> match,
                                             FetchList items, TransferOptions options,
                                             std::shared_ptr<CancelToken> cancel);
  /// Starts a part of one that goes the checked way.
  void start_checked(std::shared_ptr<const Match::State> match, FetchList items,
                     TransferOptions options, std::shared_ptr<CheckedParts> parts,
                     MixedFetch::Reported reported);
  /// Starts a fetch, all of which goes the checked way.
  std::shared_ptr<detail::Outcome<TransferReport>> fetch_checked(const Match& match,
                                                                 FetchList items,
                                                                 TransferOptions options);
  Operation<TransferReport> fetch_async(const Match& match, FetchList items,
                                        TransferOptions options);
  /// Fetches; what is mapped is copied by this thread.
  Result<TransferReport> fetch(const Match& match, FetchList items, TransferOptions options);
  Result<std::uint64_t> offer(const OpenedNamespace& space, StoreList list,
                              std::function<void(const TransferReport&)> done, PieceMemory memory);
  Operation<TransferReport> share(const OpenedNamespace& space, StoreList list,
                                  TransferOptions options);
  Result<> unshare(std::shared_ptr<const LayoutGeometry> layout, std::vector<std::uint32_t> ids);
  /// A transfer that ended before it began.
  Operation<TransferReport> refused(const Error& why);

  /// Starts what `work()` yields, until it could be started, and waits for its end.
  template <class Work>
  void run_to_its_end(Loop& loop, Work work);

  ~Runtime();
};

template <class T>
Task<> conclude(Task<Result<T>> work, std::shared_ptr<detail::Outcome<T>> outcome) {
  Result<T> result = co_await work;
  outcome->finish(std::move(result));
}

template <class T>
std::shared_ptr<detail::Outcome<T>> Client::Runtime::new_outcome() {
  auto outcome = std::make_shared<detail::Outcome<T>>();
  outcome->driven = caller_drives ? &control_loop : nullptr;
  return outcome;
}

template <class T>
void Client::Runtime::submit(Loop& loop, Task<Result<T>> work,
                             std::shared_ptr<detail::Outcome<T>> outcome) {
  auto job = [&loop, outcome, work = std::move(work)]() mutable {
    loop.spawn(conclude(std::move(work), std::move(outcome)));
  };
  const Result<> posted = loop.inbox().post(std::move(job));
  if (!posted) outcome->finish(fail(posted.error()));
}

template <class Work>
void Client::Runtime::run_to_its_end(Loop& loop, Work work) {
  while (!run(loop, work())) {  // a full inbox drains meanwhile
    if (caller_drives) control_loop.turn();
  }
}

template <class T>
Operation<T> Client::Runtime::start(Loop& loop, Task<Result<T>> work) {
  std::shared_ptr<detail::Outcome<T>> outcome = new_outcome<T>();
  submit(loop, std::move(work), outcome);
  return Operation<T>(std::move(outcome));
}

template <class T>
Result<T> Client::Runtime::run(Loop& loop, Task<Result<T>> work) {
  std::shared_ptr<detail::Outcome<T>> outcome = new_outcome<T>();
  submit(loop, std::move(work), outcome);
  outcome->await();
  return outcome->take();
}

}  // namespace membrain
