// The public client: threads, UCX fabrics and waiting around a ClientCore. Nothing else of the
// client knows of any of them.
#include "membrain/client.h"

#include <pthread.h>

#include <fstream>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/checksum.h"
#include "base/clock.h"
#include "cache/client/cancel_token.h"
#include "cache/client/client_core.h"
#include "cache/client/copy_pool.h"
#include "cache/client/door_opener.h"
#include "cache/client/mapped_fetch.h"
#include "cache/client/mapped_view.h"
#include "cache/client/operation.h"
#include "cache/client/store.h"
#include "protocol/messages.h"
#include "transport/loop.h"
#include "transport/task.h"
#include "transport/ucx/ucx_context.h"
#include "transport/ucx/ucx_fabric.h"

namespace membrain {

namespace {

using detail::Outcome;

constexpr std::uint32_t kMaxCopyThreads = 64;

/// Equal on all processes of a host, and on no two hosts.
std::string host_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

Result<> check_config(const ClientConfig& config) {
  const auto bad = [](const char* why) { return fail(Errc::invalid_argument, why); };
  if (config.server.empty()) return bad("ClientConfig::server is empty");
  if (config.tenant.empty() || config.tenant.size() > wire::kMaxTextBytes) {
    return bad("ClientConfig::tenant has 1 to 256 bytes");
  }
  if (config.label.size() > wire::kMaxTextBytes) return bad("ClientConfig::label is too long");
  if (config.connect_timeout.count() <= 0 || config.default_timeout.count() <= 0) {
    return bad("ClientConfig: a time-out must be positive");
  }
  if (config.fetch_window_blocks == 0) return bad("ClientConfig::fetch_window_blocks is 0");
  if (config.copy_threads > kMaxCopyThreads) return bad("ClientConfig::copy_threads is above 64");
  return {};
}

template <class T>
Task<> conclude(Task<Result<T>> work, std::shared_ptr<Outcome<T>> outcome) {
  Result<T> result = co_await work;
  outcome->finish(std::move(result));
}

Task<Result<>> stop_core(ClientCore& core) {
  Task<> stopping = core.stop();
  co_await stopping;
  co_return Result<>{};
}

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

Task<> fetch_part(ClientCore& core, std::shared_ptr<const Match::State> match, FetchList items,
                  TransferOptions options, std::shared_ptr<CancelToken> cancel,
                  MixedFetch::Reported reported) {
  Task<Result<TransferReport>> fetching =
      core.fetch(std::move(match), std::move(items), std::move(options), std::move(cancel));
  Result<TransferReport> report = co_await fetching;
  reported(std::move(report));
}

std::jthread run_thread(Loop& loop, const char* name) {
  return std::jthread([&loop, name] {
    pthread_setname_np(pthread_self(), name);
    loop.run();
  });
}

}  // namespace

/// What a Client owns. One loop for both fabrics with `Threads::caller`, else one each.
struct Client::Runtime {
  SteadyClock clock;
  Loop control_loop{clock};
  Loop own_data_loop{clock};
  bool caller_drives = false;
  std::unique_ptr<Fabric> control;
  std::unique_ptr<Fabric> data;
  std::unique_ptr<ClientCore> core;
  std::unique_ptr<CopyPool> copies;
  bool started = false;
  std::jthread control_thread;
  std::jthread data_thread;

  [[nodiscard]] Loop& data_loop() noexcept { return caller_drives ? control_loop : own_data_loop; }

  Result<> make_fabrics(const ClientConfig& config);
  Result<> start_threads();
  void stop_threads() noexcept;

  /// Starts `work` on `loop`; its result will be in `outcome`.
  template <class T>
  void submit(Loop& loop, Task<Result<T>> work, std::shared_ptr<Outcome<T>> outcome);
  template <class T>
  std::shared_ptr<Outcome<T>> new_outcome();
  /// Starts `work` on `loop` and waits for its result.
  template <class T>
  Result<T> run(Loop& loop, Task<Result<T>> work);
  /// Starts a transfer on the data loop, which `cancel` takes back.
  std::shared_ptr<Outcome<TransferReport>> run_transfer(Task<Result<TransferReport>> work,
                                                        std::shared_ptr<CancelToken> cancel);

  /// A fetch of which some is mapped; what it reports will be in the outcome. Null if nothing is:
  /// then the items and options are still the caller's.
  struct Mixed {
    std::shared_ptr<MixedFetch> fetch;
    std::shared_ptr<Outcome<TransferReport>> outcome;
  };
  Mixed mix(const Match& match, FetchList& items, TransferOptions& options);
  /// Starts a part of one that goes the checked way.
  void start_checked(std::shared_ptr<const Match::State> match, FetchList items,
                     TransferOptions options, std::shared_ptr<CheckedParts> parts,
                     MixedFetch::Reported reported);
  /// Starts a fetch, all of which goes the checked way.
  std::shared_ptr<Outcome<TransferReport>> fetch_checked(const Match& match, FetchList items,
                                                         TransferOptions options);
  Operation<TransferReport> fetch_async(const Match& match, FetchList items,
                                        TransferOptions options);
  /// Fetches; what is mapped is copied by this thread.
  Result<TransferReport> fetch(const Match& match, FetchList items, TransferOptions options);
  Result<std::uint64_t> offer(const OpenedNamespace& space, StoreList list,
                              std::function<void(const TransferReport&)> done);
  /// A transfer that ended before it began.
  Operation<TransferReport> refused(const Error& why);

  ~Runtime();
};

Result<> Client::Runtime::make_fabrics(const ClientConfig& config) {
  UcxContextConfig ucx;
  ucx.loopback_only = is_loopback(config.server);  // then all of the cluster is on this host
  const Result<std::shared_ptr<UcxContext>> context = UcxContext::create(ucx);
  if (!context) return fail(context.error());
  UcxFabricConfig fabric;
  fabric.secret = config.secret;
  fabric.label = config.label;
  Result<std::unique_ptr<Fabric>> made = make_ucx_fabric(*context, control_loop, fabric);
  if (!made) return fail(made.error());
  control = std::move(*made);
  made = make_ucx_fabric(*context, data_loop(), fabric);
  if (!made) return fail(made.error());
  data = std::move(*made);
  return {};
}

Result<> Client::Runtime::start_threads() {
  if (caller_drives) return {};
  try {
    control_thread = run_thread(control_loop, "mb-control");
    data_thread = run_thread(own_data_loop, "mb-data");
  } catch (const std::system_error& error) {
    return fail(Errc::out_of_capacity, "the client's threads", error.code().value());
  }
  return {};
}

void Client::Runtime::stop_threads() noexcept {
  const auto stop = [](Loop& loop, std::jthread& thread) {
    if (!thread.joinable()) return;
    loop.stop();
    thread.join();
  };
  stop(control_loop, control_thread);
  stop(own_data_loop, data_thread);
}

template <class T>
std::shared_ptr<Outcome<T>> Client::Runtime::new_outcome() {
  auto outcome = std::make_shared<Outcome<T>>();
  outcome->driven = caller_drives ? &control_loop : nullptr;
  return outcome;
}

template <class T>
void Client::Runtime::submit(Loop& loop, Task<Result<T>> work,
                             std::shared_ptr<Outcome<T>> outcome) {
  auto job = [&loop, outcome, work = std::move(work)]() mutable {
    loop.spawn(conclude(std::move(work), std::move(outcome)));
  };
  const Result<> posted = loop.inbox().post(std::move(job));
  if (!posted) outcome->finish(fail(posted.error()));
}

template <class T>
Result<T> Client::Runtime::run(Loop& loop, Task<Result<T>> work) {
  std::shared_ptr<Outcome<T>> outcome = new_outcome<T>();
  submit(loop, std::move(work), outcome);
  outcome->await();
  return outcome->take();
}

std::shared_ptr<Outcome<TransferReport>> Client::Runtime::run_transfer(
    Task<Result<TransferReport>> work, std::shared_ptr<CancelToken> cancel) {
  std::shared_ptr<Outcome<TransferReport>> outcome = new_outcome<TransferReport>();
  outcome->take_back = [&loop = data_loop(), cancel] {
    // An inbox that is full loses the wish: the operation ends by its deadline.
    [[maybe_unused]] const Result<> posted = loop.inbox().post([cancel] { cancel->request(); });
  };
  submit(data_loop(), std::move(work), outcome);
  return outcome;
}

void Client::Runtime::start_checked(std::shared_ptr<const Match::State> match, FetchList items,
                                    TransferOptions options, std::shared_ptr<CheckedParts> parts,
                                    MixedFetch::Reported reported) {
  Loop& loop = data_loop();
  auto job = [this, &loop, match = std::move(match), items = std::move(items),
              options = std::move(options), parts = std::move(parts), reported]() mutable {
    loop.spawn(fetch_part(*core, std::move(match), std::move(items), std::move(options),
                          parts->add(), std::move(reported)));
  };
  const Result<> posted = loop.inbox().post(std::move(job));
  if (!posted) reported(fail(posted.error()));
}

Client::Runtime::Mixed Client::Runtime::mix(const Match& match, FetchList& items,
                                            TransferOptions& options) {
  if (!match.state()) return {};
  std::optional<MappedPlan> plan = plan_mapped(*match.state(), items, core->arenas());
  if (!plan) return {};
  Mixed mixed;
  mixed.outcome = new_outcome<TransferReport>();
  MixedFetch::Job job;
  job.match = match.state();
  job.items = std::move(items);
  job.options = std::move(options);
  if (job.options.timeout.count() <= 0) job.options.timeout = core->config().default_timeout;
  job.plan = std::move(*plan);
  job.verify = core->config().verify_checksums;
  job.clock = &clock;
  auto parts = std::make_shared<CheckedParts>();
  job.checked = [this, state = match.state(), parts](auto wanted, auto terms, auto reported) {
    start_checked(state, std::move(wanted), std::move(terms), parts, std::move(reported));
  };
  job.reported = [outcome = mixed.outcome](Result<TransferReport> report) {
    outcome->finish(std::move(report));
  };
  mixed.fetch = std::make_shared<MixedFetch>(std::move(job));
  mixed.outcome->take_back = [&loop = data_loop(), fetch = std::weak_ptr(mixed.fetch), parts] {
    if (const auto still = fetch.lock()) still->cancel();
    [[maybe_unused]] const Result<> posted = loop.inbox().post([parts] { parts->cancel(); });
  };
  return mixed;
}

std::shared_ptr<Outcome<TransferReport>> Client::Runtime::fetch_checked(const Match& match,
                                                                        FetchList items,
                                                                        TransferOptions options) {
  auto cancel = std::make_shared<CancelToken>();
  Task<Result<TransferReport>> work =
      core->fetch(match.state(), std::move(items), std::move(options), cancel);
  return run_transfer(std::move(work), std::move(cancel));
}

Operation<TransferReport> Client::Runtime::fetch_async(const Match& match, FetchList items,
                                                       TransferOptions options) {
  const Mixed mixed = mix(match, items, options);
  if (!mixed.fetch) {
    return Operation<TransferReport>(fetch_checked(match, std::move(items), std::move(options)));
  }
  const bool posted = !caller_drives && copies->post([fetch = mixed.fetch] { fetch->copy(); });
  mixed.fetch->start();
  if (caller_drives) {
    mixed.fetch->copy();
  } else if (!posted) {
    mixed.fetch->ask();
  }
  return Operation<TransferReport>(mixed.outcome);
}

Result<TransferReport> Client::Runtime::fetch(const Match& match, FetchList items,
                                              TransferOptions options) {
  const Mixed mixed = mix(match, items, options);
  const std::shared_ptr<Outcome<TransferReport>> outcome =
      mixed.fetch ? mixed.outcome : fetch_checked(match, std::move(items), std::move(options));
  if (mixed.fetch) {
    mixed.fetch->start();
    mixed.fetch->copy();
  }
  outcome->await();
  return outcome->take();
}

Result<std::uint64_t> Client::Runtime::offer(const OpenedNamespace& space, StoreList list,
                                             std::function<void(const TransferReport&)> done) {
  if (const Result<> fine = check_store(list); !fine) return fail(fine.error());
  BackgroundStore& background = core->background();
  StoreOffer offer;
  offer.space = space;
  offer.list = std::move(list);
  offer.done = std::move(done);
  if (const Result<> admitted = background.admit(offer); !admitted) return fail(admitted.error());
  const std::uint64_t id = offer.id;
  auto shared = std::make_shared<StoreOffer>(std::move(offer));
  const auto take = [&background, shared] { background.take(std::move(*shared)); };
  if (const Result<> posted = data_loop().inbox().post(take); !posted) {
    background.refuse(*shared);
    return fail(posted.error());
  }
  return id;
}

Operation<TransferReport> Client::Runtime::refused(const Error& why) {
  std::shared_ptr<Outcome<TransferReport>> outcome = new_outcome<TransferReport>();
  outcome->finish(fail(why));
  return Operation<TransferReport>(std::move(outcome));
}

Client::Runtime::~Runtime() {
  if (copies) copies->stop();
  while (started) {
    const Result<> stopped = run(control_loop, stop_core(*core));
    started = !stopped;  // a full inbox drains meanwhile
    if (started && caller_drives) control_loop.turn();
  }
  stop_threads();
}

Client::Client(std::unique_ptr<Runtime> runtime) noexcept : runtime_(std::move(runtime)) {}

Client::~Client() = default;

Result<std::unique_ptr<Client>> Client::open(ClientConfig config) {
  if (const Result<> fine = check_config(config); !fine) return fail(fine.error());
  auto runtime = std::make_unique<Runtime>();
  runtime->caller_drives = config.threads == ClientConfig::Threads::caller;
  if (const Result<> made = runtime->make_fabrics(config); !made) return fail(made.error());
  runtime->copies = std::make_unique<CopyPool>(config.copy_threads);
  auto opener = config.mapped ? std::make_unique<DoorOpener>(runtime->control_loop) : nullptr;
  runtime->core = std::make_unique<ClientCore>(*runtime->control, *runtime->data, std::move(config),
                                               host_id(), std::move(opener));
  if (const Result<> begun = runtime->start_threads(); !begun) return fail(begun.error());
  const Result<> started = runtime->run(runtime->control_loop, runtime->core->start());
  if (!started) return fail(started.error());
  runtime->started = true;
  Runtime& at = *runtime;
  runtime->core->pin_desk().set_grants(
      [&at](std::shared_ptr<const Match::State> match, std::chrono::milliseconds valid) {
        return at.run(at.control_loop, at.core->grant(std::move(match), valid));
      });
  return std::unique_ptr<Client>(new Client(std::move(runtime)));
}

Result<OpenedNamespace> Client::open_namespace(const Namespace& space) {
  return runtime_->run(runtime_->control_loop, runtime_->core->open_namespace(space));
}

Operation<Match> Client::lookup_async(const OpenedNamespace& space,
                                      std::span<const BlockHash> hashes,
                                      const LookupOptions& options) {
  std::shared_ptr<Outcome<Match>> outcome = runtime_->new_outcome<Match>();
  Task<Result<Match>> work = runtime_->core->lookup(space, {hashes.begin(), hashes.end()}, options);
  runtime_->submit(runtime_->control_loop, std::move(work), outcome);
  return Operation<Match>(std::move(outcome));
}

Result<Match> Client::lookup(const OpenedNamespace& space, std::span<const BlockHash> hashes,
                             const LookupOptions& options) {
  return lookup_async(space, hashes, options).wait();
}

Result<std::vector<bool>> Client::contains(const OpenedNamespace& space,
                                           std::span<const BlockHash> hashes, std::uint16_t parts) {
  LookupOptions options;
  options.mode = LookupOptions::Mode::probe;
  options.rule = LookupOptions::Rule::all;
  options.parts = parts;
  const Result<Match> match = lookup(space, hashes, options);
  if (!match) return fail(match.error());
  std::vector<bool> there(hashes.size());
  for (std::size_t i = 0; i < there.size(); ++i) there[i] = match->has(i);
  return there;
}

Result<Match> Client::adopt(std::span<const std::byte> grant) {
  if (grant.size() > Match::kMaxGrantBytes) {
    return fail(Errc::corrupt, "these bytes are not a grant");
  }
  return runtime_->run(runtime_->control_loop, runtime_->core->adopt({grant.begin(), grant.end()}));
}

Operation<TransferReport> Client::fetch_async(const Match& match, std::span<const FetchItem> items,
                                              TransferOptions options) {
  return runtime_->fetch_async(match, FetchList(items), std::move(options));
}

Result<TransferReport> Client::fetch(const Match& match, std::span<const FetchItem> items,
                                     TransferOptions options) {
  return runtime_->fetch(match, FetchList(items), std::move(options));
}

Result<std::vector<View>> Client::fetch_view(const Match& match,
                                             std::span<const FetchItem> items) const {
  if (!match.state()) return fail(Errc::invalid_argument, "a match of nothing");
  const std::shared_ptr<const ArenaSet> arenas = runtime_->core->arenas();
  if (!arenas) return fail(Errc::unavailable, "no node of this host is mapped");
  return view_mapped(*match.state(), items, *arenas, runtime_->core->config().verify_checksums);
}

Operation<TransferReport> Client::store_async(const OpenedNamespace& space,
                                              std::span<const StoreItem> items,
                                              TransferOptions options) {
  auto cancel = std::make_shared<CancelToken>();
  Task<Result<TransferReport>> work = runtime_->core->store(
      space, std::vector<StoreItem>(items.begin(), items.end()), std::move(options), cancel);
  return Operation<TransferReport>(runtime_->run_transfer(std::move(work), std::move(cancel)));
}

Result<TransferReport> Client::store(const OpenedNamespace& space, std::span<const StoreItem> items,
                                     TransferOptions options) {
  return store_async(space, items, std::move(options)).wait();
}

Result<std::vector<Reservation>> Client::reserve(const OpenedNamespace& space,
                                                 std::span<const ReserveItem> items,
                                                 std::chrono::milliseconds valid) {
  return runtime_->run(runtime_->data_loop(),
                       runtime_->core->reserve(space, {items.begin(), items.end()}, valid));
}

Result<TransferReport> Client::seal(std::vector<Reservation> written,
                                    std::chrono::milliseconds timeout) {
  std::vector<WrittenBlock> blocks(written.size());
  for (std::size_t i = 0; i < written.size(); ++i) {
    if (written[i].granted()) blocks[i].checksum = checksum(written[i].bytes());
    blocks[i].slot = written[i].take();
  }
  return runtime_->run(runtime_->data_loop(), runtime_->core->seal(std::move(blocks), timeout));
}

Result<std::uint64_t> Client::offer(const OpenedNamespace& space, std::vector<StoreItem> items,
                                    std::function<void(const TransferReport&)> done) {
  return runtime_->offer(space, StoreList(std::move(items)), std::move(done));
}

Result<std::uint64_t> Client::offer(const OpenedNamespace& space, const RegisteredLayout& from,
                                    const LayoutStore& blocks,
                                    std::function<void(const TransferReport&)> done) {
  Result<StoreList> list = StoreList::of(from, blocks);
  if (!list) return fail(list.error());
  return runtime_->offer(space, std::move(*list), std::move(done));
}

void Client::withdraw(std::uint64_t offer) {
  BackgroundStore& background = runtime_->core->background();
  // An inbox that is full loses the wish: the offer ends like any other.
  [[maybe_unused]] const Result<> posted =
      runtime_->data_loop().inbox().post([&background, offer] { background.withdraw(offer); });
}

BackgroundStats Client::background_stats() const {
  return runtime_->core->background().stats();
}

Result<RegisteredLayout> Client::register_layout(const Layout& layout) {
  const Result<std::shared_ptr<const LayoutGeometry>> geometry = LayoutGeometry::check(layout);
  if (!geometry) return fail(geometry.error());
  return RegisteredLayout(*geometry);
}

Operation<TransferReport> Client::fetch_async(const Match& match, const RegisteredLayout& into,
                                              const LayoutFetch& fetch, TransferOptions options) {
  Result<FetchList> list = FetchList::of(into, fetch);
  if (!list) return runtime_->refused(list.error());
  return runtime_->fetch_async(match, std::move(*list), std::move(options));
}

Result<TransferReport> Client::fetch(const Match& match, const RegisteredLayout& into,
                                     const LayoutFetch& fetch, TransferOptions options) {
  Result<FetchList> list = FetchList::of(into, fetch);
  if (!list) return fail(list.error());
  return runtime_->fetch(match, std::move(*list), std::move(options));
}

Operation<TransferReport> Client::store_async(const OpenedNamespace& space,
                                              const RegisteredLayout& from,
                                              const LayoutStore& blocks, TransferOptions options) {
  Result<StoreList> list = StoreList::of(from, blocks);
  if (!list) return runtime_->refused(list.error());
  auto cancel = std::make_shared<CancelToken>();
  Task<Result<TransferReport>> work =
      runtime_->core->store(space, std::move(*list), std::move(options), cancel);
  return Operation<TransferReport>(runtime_->run_transfer(std::move(work), std::move(cancel)));
}

Result<TransferReport> Client::store(const OpenedNamespace& space, const RegisteredLayout& from,
                                     const LayoutStore& blocks, TransferOptions options) {
  return store_async(space, from, blocks, std::move(options)).wait();
}

Result<OpenedNamespace> Client::clear(const OpenedNamespace& space) {
  return runtime_->run(runtime_->control_loop, runtime_->core->clear(space));
}

Result<std::map<std::string, std::uint64_t>> Client::server_stats() {
  return runtime_->run(runtime_->control_loop, runtime_->core->server_stats());
}

bool Client::poll() {
  return runtime_->caller_drives && runtime_->control_loop.turn();
}

}  // namespace membrain
