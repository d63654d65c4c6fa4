#include "cache/client/client_runtime.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <string>
#include <system_error>

#include "base/log.h"
#include "cache/client/client_config.h"
#include "cache/client/door_opener.h"
#include "cache/client/gpu_surroundings.h"
#include "cache/client/store.h"
#include "cache/memory/bell.h"
#include "cache/memory/device_lane.h"
#include "protocol/messages.h"
#include "protocol/servers.h"
#include "transport/host_id.h"
#include "transport/ucx/route.h"
#include "transport/ucx/ucx_context.h"
#include "transport/ucx/ucx_fabric.h"
#include "transport/ucx/ucx_windows.h"

namespace membrain {

namespace {

using detail::Outcome;

/// Once a process.
void tell_of_staging() {
  static std::atomic_flag told;
  if (told.test_and_set()) return;
  log(LogLevel::warn,
      "UCX {} knows no GPU memory: blocks of GPUs go through pinned memory of the host; "
      "tools/build_ucx_cuda.sh builds one that does (docs/gpu.md)",
      UcxContext::version());
}

Task<Result<>> finished(Task<> work) {
  co_await work;
  co_return Result<>{};
}

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

Result<std::unique_ptr<Client::Runtime>> Client::Runtime::open(ClientConfig config) {
  if (const Result<> fine = check_config(config); !fine) return fail(fine.error());
  auto runtime = std::make_unique<Runtime>();
  runtime->caller_drives = config.threads == ClientConfig::Threads::caller;
  UcxContextConfig ucx;
  // Then all of the cluster is on this host.
  ucx.loopback_only = std::ranges::all_of(Servers(config.server), is_loopback);
  Result<std::shared_ptr<UcxContext>> context = UcxContext::create(ucx);
  if (!context) return fail(context.error());
  runtime->context = std::move(*context);
  Result<> made = runtime->open_gpus(config);
  if (made) made = runtime->make_fabrics(config);
  if (made) made = runtime->make_sharer(config);
  if (!made) return fail(made.error());
  runtime->copies = std::make_unique<CopyQueue>(runtime->clock, config.copy_threads);
  auto opener = config.mapped ? std::make_unique<DoorOpener>(runtime->control_loop) : nullptr;
  std::unique_ptr<Windows> windows = runtime->make_windows(config);
  auto devices = runtime->open_lanes(config, config.staging_slots, *runtime->data);
  if (!devices) return fail(devices.error());
  const bool pins = config.pin_arenas && config.mapped && !devices->empty();
  auto pinner = pins ? std::make_unique<ArenaPins>(devices->front()->device()) : nullptr;
  runtime->core =
      std::make_unique<ClientCore>(*runtime->control, *runtime->data, std::move(config), host_id(),
                                   std::move(opener), std::move(*devices), std::move(windows));
  runtime->core->set_host_fetch(
      [&at = *runtime](auto match, auto items, auto options, auto cancel) {
        return at.fetch_to_host(std::move(match), std::move(items), std::move(options),
                                std::move(cancel));
      });
  runtime->core->set_pinner(std::move(pinner));
  runtime->watch_ports();
  if (const Result<> begun = runtime->start_threads(); !begun) return fail(begun.error());
  const Result<> started = runtime->run(runtime->control_loop, runtime->core->start());
  if (!started) return fail(started.error());
  runtime->started = true;
  return runtime;
}

Result<> Client::Runtime::open_gpus(const ClientConfig& config) {
  if (config.devices.empty()) return {};
  const Result<std::shared_ptr<const cuda::Driver>> driver = cuda::Driver::load();
  if (!driver) return fail(driver.error());
  for (const int ordinal : config.devices) {
    const Result<std::shared_ptr<const cuda::Device>> device = cuda::Device::open(*driver, ordinal);
    if (!device) return fail(device.error());
    gpus.push_back(*device);
  }
  if (!context->devices().cuda) tell_of_staging();
  return {};
}

Result<std::vector<std::unique_ptr<DeviceLane>>> Client::Runtime::open_lanes(
    const ClientConfig& config, std::uint32_t slots, Fabric& fabric) {
  std::vector<std::unique_ptr<DeviceLane>> lanes;
  for (const std::shared_ptr<const cuda::Device>& gpu : gpus) {
    Result<std::unique_ptr<DeviceLane>> lane =
        DeviceLane::open(data_loop(), gpu, slots, config.staging_slot_bytes);
    if (!lane) return fail(lane.error());
    if (straight() && lanes.empty()) {
      const cuda::Device::Current current(*gpu);
      (*lane)->go_straight(fabric);
    }
    lanes.push_back(std::move(*lane));
  }
  return lanes;
}

Result<std::unique_ptr<Fabric>> Client::Runtime::make_fabric(const ClientConfig& config,
                                                             Loop& loop) {
  UcxFabricConfig fabric;
  fabric.secret = config.secret;
  fabric.label = config.label;
  return make_ucx_fabric(context, loop, fabric);
}

Result<std::unique_ptr<Fabric>> Client::Runtime::make_data_fabric(const ClientConfig& config) {
  UcxFabricConfig fabric;
  fabric.secret = config.secret;
  fabric.label = config.label;
  if (straight()) fabric.around = std::make_shared<GpuSurroundings>(gpus.front());
  return make_ucx_fabric(context, data_loop(), fabric);
}

Result<> Client::Runtime::make_fabrics(const ClientConfig& config) {
  Result<std::unique_ptr<Fabric>> made = make_fabric(config, control_loop);
  if (!made) return fail(made.error());
  control = std::move(*made);
  made = make_data_fabric(config);
  if (!made) return fail(made.error());
  data = std::move(*made);
  transports = context->transports();
  return {};
}

std::unique_ptr<Windows> Client::Runtime::make_windows(const ClientConfig& config) {
  if (!config.one_sided_reads) return nullptr;
  UcxContextConfig ucx;
  ucx.loopback_only = false;  // nothing but RDMA devices is used
  Result<std::unique_ptr<Windows>> made = make_ucx_windows(data_loop(), ucx);
  if (made) return std::move(*made);
  log(LogLevel::warn, "no one-sided reads: no RDMA device that can be used; nodes are asked");
  return nullptr;
}

void Client::Runtime::watch_ports() {
  const auto told = [this](const verbs::PortEvent& event) {
    if (!event.up && uses_port(transports, event.device, event.port)) core->lane_down("rdma");
  };
  const bool rdma = std::ranges::any_of(
      transports, [](const std::string& name) { return name.find(':') != std::string::npos; });
  if (rdma) ports = verbs::PortEvents::watch(data_loop(), told);
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

Client::Runtime::Mixed Client::Runtime::mix(const std::shared_ptr<const Match::State>& match,
                                            FetchList& items, TransferOptions& options,
                                            MixedFetch::Reported reported) {
  if (!match) return {};
  std::optional<MappedPlan> plan = plan_mapped(*match, items, core->arenas());
  if (!plan) return {};
  MixedFetch::Job job;
  job.match = match;
  job.items = std::move(items);
  job.options = std::move(options);
  if (job.options.timeout.count() <= 0) job.options.timeout = core->config().default_timeout;
  job.plan = std::move(*plan);
  job.verify = core->config().verify_checksums;
  job.clock = &clock;
  auto parts = std::make_shared<CheckedParts>();
  job.checked = [this, match, parts](auto wanted, auto terms, auto checked) {
    start_checked(match, std::move(wanted), std::move(terms), parts, std::move(checked));
  };
  job.reported = std::move(reported);
  return {std::make_shared<MixedFetch>(std::move(job)), parts};
}

std::pair<Client::Runtime::Mixed, std::shared_ptr<Outcome<TransferReport>>>
Client::Runtime::mix_operation(const Match& match, FetchList& items, TransferOptions& options) {
  if (options.memory.device != PieceMemory::kHost) return {};
  std::shared_ptr<Outcome<TransferReport>> outcome = new_outcome<TransferReport>();
  const auto finish = [outcome](Result<TransferReport> report) {
    outcome->finish(std::move(report));
  };
  Mixed mixed = mix(match.state(), items, options, finish);
  if (!mixed.fetch) return {};
  outcome->take_back = [&loop = data_loop(), fetch = std::weak_ptr(mixed.fetch),
                        parts = mixed.parts] {
    if (const auto still = fetch.lock()) still->cancel();
    [[maybe_unused]] const Result<> posted = loop.inbox().post([fetch, parts] {
      parts->cancel();
      if (const auto still = fetch.lock()) still->give_up(Errc::cancelled);
    });
  };
  return {std::move(mixed), std::move(outcome)};
}

void Client::Runtime::start_mixed(const Mixed& mixed) {
  const bool posted = !caller_drives && copies->post(mixed.fetch);
  mixed.fetch->start();
  if (caller_drives) {
    mixed.fetch->copy();
  } else if (!posted) {
    mixed.fetch->ask();
  }
}

Task<Result<TransferReport>> Client::Runtime::fetch_to_host(
    std::shared_ptr<const Match::State> match, FetchList items, TransferOptions options,
    std::shared_ptr<CancelToken> cancel) {
  struct End {
    std::optional<Result<TransferReport>> report;
    std::atomic<bool> come = false;
  };
  auto bell = std::make_shared<Bell>(data_loop());
  auto end = std::make_shared<End>();
  const auto finish = [bell, end](Result<TransferReport> report) {
    end->report.emplace(std::move(report));
    end->come.store(true, std::memory_order_release);
    bell->ring();
  };
  const Mixed mixed = mix(match, items, options, finish);
  if (!mixed.fetch) {
    Task<Result<TransferReport>> checked = core->fetch_to_host(
        std::move(match), std::move(items), std::move(options), std::move(cancel));
    co_return co_await checked;
  }
  const auto take_back = [&mixed] {
    mixed.fetch->cancel();
    mixed.parts->cancel();
  };
  if (cancel->requested()) take_back();
  cancel->on_request(take_back);
  start_mixed(mixed);
  Task<> ending = bell->until([&end] { return end->come.load(std::memory_order_acquire); });
  co_await ending;
  cancel->on_request(nullptr);
  co_return std::move(*end->report);
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
  const auto [mixed, outcome] = mix_operation(match, items, options);
  if (!mixed.fetch) {
    return Operation<TransferReport>(fetch_checked(match, std::move(items), std::move(options)));
  }
  start_mixed(mixed);
  return Operation<TransferReport>(outcome);
}

Result<TransferReport> Client::Runtime::fetch(const Match& match, FetchList items,
                                              TransferOptions options) {
  const auto [mixed, mapped] = mix_operation(match, items, options);
  const std::shared_ptr<Outcome<TransferReport>> outcome =
      mixed.fetch ? mapped : fetch_checked(match, std::move(items), std::move(options));
  if (mixed.fetch) {
    mixed.fetch->start();
    mixed.fetch->copy();
  }
  outcome->await();
  return outcome->take();
}

Result<std::uint64_t> Client::Runtime::offer(const OpenedNamespace& space, StoreList list,
                                             std::function<void(const TransferReport&)> done,
                                             PieceMemory memory) {
  if (const Result<> fine = check_store(list); !fine) return fail(fine.error());
  if (const Result<DeviceLane*> lane = core->lane_of(memory); !lane) return fail(lane.error());
  BackgroundStore& background = core->background();
  StoreOffer offer;
  offer.space = space;
  offer.list = std::move(list);
  offer.memory = memory;
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
  const bool turning = caller_drives || data_thread.joinable();
  if (sharer && turning) run_to_its_end(control_loop, [this] { return finished(sharer->leave()); });
  if (started) run_to_its_end(control_loop, [this] { return finished(core->stop()); });
  stop_threads();
}

}  // namespace membrain
