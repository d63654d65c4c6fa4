#include "tools/lane_probe.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <list>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/copy.h"
#include "cache/client/gpu_surroundings.h"
#include "tools/child.h"
#include "tools/loop_thread.h"
#include "tools/outcome.h"
#include "transport/cuda/staging.h"
#include "transport/ucx/ucx_fabric.h"
#include "transport/verbs/topology.h"

namespace membrain {

namespace {

using std::chrono::milliseconds;

constexpr std::size_t kSmall = 4096;
constexpr std::size_t kLarge = std::size_t{1} << 20;
constexpr std::size_t kWindow = 4;
constexpr std::size_t kSpread = 16;  // blocks in turn, so that they do not stay in a cache
constexpr Duration kMeasured = milliseconds(100);
constexpr int kRounds =
    3;  // the best of them counts: what the lane can do, not what else runs here
constexpr Duration kPatience = std::chrono::seconds(10);
constexpr const char* kGpuLane = "gpu";
constexpr const char* kOnGpu = "_gpu";  // behind a lane's name

using Gpu = std::shared_ptr<const cuda::Device>;

/// What both sides of a probe stand on. Their blocks lie in the host's memory, or on a GPU.
struct Ground {
  std::vector<std::byte> host;
  std::optional<cuda::DeviceBuffer> there;
  std::unique_ptr<Fabric> fabric;
  std::unique_ptr<Region> region;  ///< goes first

  [[nodiscard]] std::byte* block(std::size_t number) {
    auto* const first = there ? reinterpret_cast<std::byte*>(there->address()) : host.data();
    return first + number % kSpread * kLarge;
  }
  void close() {
    region.reset();
    fabric.reset();
  }
};

Outcome<> register_on(const Gpu& gpu, Ground& ground) {
  const cuda::Device::Current current(*gpu);
  auto region = ground.fabric->register_device_memory({ground.block(0), kLarge * kSpread});
  if (!region) return complain("it reaches no GPU memory: {}", region.error().context);
  ground.region = std::move(*region);
  return {};
}

/// RDMA locks what it reaches, and the limit of that is small unless somebody has raised it.
Outcome<> register_in_host(Ground& ground) {
  auto region = ground.fabric->register_memory(ground.host);
  if (!region) {
    return complain(
        "memory cannot be locked for it ({}): ulimit -l unlimited (systemd: LimitMEMLOCK=infinity; "
        "containers: --ulimit memlock=-1)",
        region.error().context);
  }
  ground.region = std::move(*region);
  return {};
}

/// `gpu` may be null.
Outcome<> open_ground(const std::shared_ptr<UcxContext>& context, Loop& loop, const Gpu& gpu,
                      Ground& ground) {
  UcxFabricConfig config{"", "probe"};
  if (gpu) {
    auto memory = cuda::DeviceBuffer::allocate(gpu, kLarge * kSpread);
    if (!memory) return complain("no memory of the GPU: {}", memory.error().context);
    ground.there.emplace(std::move(*memory));
    config.around = std::make_shared<GpuSurroundings>(gpu);
  } else {
    ground.host.resize(kLarge * kSpread);
  }
  Result<std::unique_ptr<Fabric>> fabric = make_ucx_fabric(context, loop, config);
  if (!fabric) return complain("UCX cannot open it: {}", fabric.error().context);
  ground.fabric = std::move(*fabric);
  return gpu ? register_on(gpu, ground) : register_in_host(ground);
}

/// Answers a frame, whose bytes are a number, with as many bytes.
class Answering final : public Receiver {
 public:
  Answering() : thread_("probe") {}
  ~Answering() {
    thread_.stop();
    ground_.close();
  }
  Outcome<> open(const std::shared_ptr<UcxContext>& context, const Gpu& gpu) {
    if (const Outcome<> opened = open_ground(context, thread_.loop(), gpu, ground_); !opened) {
      return opened;
    }
    ground_.fabric->set_receiver(*this);
    const Result<Address> address = ground_.fabric->listen("127.0.0.1:0");
    if (!address) return complain("it cannot listen: {}", address.error().context);
    address_ = *address;
    thread_.start();
    return {};
  }
  [[nodiscard]] const Address& address() const noexcept { return address_; }

  void on_message(PeerId peer, std::span<const std::byte> frame, Payload) override {
    std::uint32_t bytes = 0;
    if (frame.size() != sizeof bytes) return;
    std::memcpy(&bytes, frame.data(), sizeof bytes);
    const Segment block{ground_.block(next_++), std::min<std::size_t>(bytes, kLarge),
                        ground_.region.get()};
    sends_.remove_if([](const Completion& sent) { return sent.done(); });
    ground_.fabric->send(peer, frame, {&block, 1}, sends_.emplace_back(thread_.loop().ready()));
  }
  void on_lost(PeerId, const Error&) override {}

 private:
  LoopThread thread_;
  Ground ground_;
  std::list<Completion> sends_;
  std::size_t next_ = 0;
  Address address_;
};

/// Asks, on the caller's thread.
class Asking final : public Receiver {
 public:
  ~Asking() { ground_.close(); }
  Outcome<> open(const std::shared_ptr<UcxContext>& context, const Gpu& gpu) {
    on_gpu_ = gpu != nullptr;
    const Outcome<> opened = open_ground(context, loop_, gpu, ground_);
    if (opened) ground_.fabric->set_receiver(*this);
    return opened;
  }

  void on_message(PeerId, std::span<const std::byte>, Payload payload) override {
    if (landings_.empty()) return;
    Completion& landed = *landings_.front();
    landings_.erase(landings_.begin());
    const Segment into{ground_.block(next_++), payload.size(), ground_.region.get()};
    ground_.fabric->receive(std::move(payload), {&into, 1}, landed);
  }
  void on_lost(PeerId, const Error& why) override {
    lost_ = why;
    for (Completion* landing : std::exchange(landings_, {})) landing->finish(fail(why));
  }

  LaneFigure measure(const Address& address) {
    LaneFigure figure;
    loop_.spawn(run(address, figure));
    loop_.run();
    return figure;
  }

 private:
  Task<> run(Address address, LaneFigure& figure) {
    Fabric& fabric = *ground_.fabric;
    Task<Result<PeerId>> connecting = fabric.connect(address, clock_.now() + kPatience);
    const Result<PeerId> peer = co_await connecting;
    if (!peer) {
      figure.reason = std::string(to_string(peer.error().code));
    } else if (on_gpu_ && fabric.device_payloads(*peer) == DevicePayloads::none) {
      figure.reason = "this connection carries no GPU memory";
      Task<> closing = fabric.close(*peer);
      co_await closing;
    } else {
      peer_ = *peer;
      Task<double> small = blocks_per_second(kSmall, 1);
      const double trips = co_await small;
      Task<double> large = blocks_per_second(kLarge, kWindow);
      const double blocks = co_await large;
      figure.lane = fabric.lane(peer_);
      figure.route = fabric.route(peer_);
      if (trips > 0) figure.roundtrip_us = 1e6 / trips;
      figure.bytes_per_second = blocks * static_cast<double>(kLarge);
      if (lost_ || blocks == 0) figure.reason = "the connection was lost";
      Task<> closing = fabric.close(peer_);
      co_await closing;
    }
    loop_.stop();
  }
  /// A first round does not count: UCX is still making the connection.
  Task<double> blocks_per_second(std::size_t bytes, std::size_t window) {
    Task<std::size_t> first = blocks_until(clock_.now(), bytes, window);
    co_await first;
    double best = 0;
    for (int round = 0; round < kRounds && !lost_; ++round) {
      const TimePoint begun = clock_.now();
      Task<std::size_t> blocks = blocks_until(begun + kMeasured, bytes, window);
      const std::size_t count = co_await blocks;
      const double seconds = std::chrono::duration<double>(clock_.now() - begun).count();
      best = std::max(best, static_cast<double>(count) / seconds);
    }
    co_return lost_ ? 0 : best;
  }
  /// At least one for each place of the window.
  Task<std::size_t> blocks_until(TimePoint until, std::size_t bytes, std::size_t window) {
    std::size_t count = 0;
    Completion all(loop_.ready(), static_cast<std::uint32_t>(window));
    for (std::size_t i = 0; i < window; ++i) loop_.spawn(ask(bytes, until, count, all));
    const Result<> ended = co_await all;
    co_return ended ? count : 0;
  }
  Task<> ask(std::size_t bytes, TimePoint until, std::size_t& count, Completion& all) {
    do {
      Completion landed(loop_.ready());
      landings_.push_back(&landed);
      const auto wanted = static_cast<std::uint32_t>(bytes);
      const Result<> asked = ground_.fabric->send(peer_, std::as_bytes(std::span(&wanted, 1)));
      if (!asked) {
        std::erase(landings_, &landed);
        landed.finish(asked);
      }
      const Result<> here = co_await landed;
      if (!here) break;
      ++count;
    } while (!lost_ && clock_.now() < until);
    all.finish({});
  }

  SteadyClock clock_;
  Loop loop_{clock_};
  Ground ground_;
  bool on_gpu_ = false;
  PeerId peer_;
  std::vector<Completion*> landings_;
  std::size_t next_ = 0;
  std::optional<Error> lost_;
};

/// The first active port, as UCX calls it.
std::string active_port() {
  for (const verbs::RdmaDevice& device : verbs::take_inventory().devices) {
    for (const verbs::Port& port : device.ports) {
      if (port.active()) return verbs::port_name(device, port);
    }
  }
  return {};
}

/// By way of UCX; of a GPU's memory if `gpu`.
LaneFigure measure_ucx(const std::string& lane, const Gpu& gpu) {
  UcxContextConfig config;
  if (lane == "tcp") config.transports = "tcp,self";
  if (lane == "rdma") {
    config.transports = gpu ? "rc,ud:aux,self,cuda" : "rc,ud:aux,self";
    config.devices = active_port();
    config.loopback_only = false;
  }
  const Result<std::shared_ptr<UcxContext>> context = UcxContext::create(config);
  LaneFigure figure;
  if (!context) {
    figure.reason = "UCX cannot open it";
    return figure;
  }
  Answering answering;
  Asking asking;
  Outcome<> opened = answering.open(*context, gpu);
  if (opened) opened = asking.open(*context, gpu);
  if (!opened) {
    figure.reason = opened.error().text;
    return figure;
  }
  figure = asking.measure(answering.address());
  if (figure.reason.empty() && figure.lane != lane) {
    figure.reason = fmt::format("UCX took {} instead ({})", figure.lane, figure.route);
  }
  return figure;
}

/// Between GPU memory of two processes, without the host's.
LaneFigure measure_on_gpu(const std::string& lane) {
  LaneFigure figure;
  const auto driver = cuda::Driver::load();
  if (!driver) {
    figure.reason = driver.error().context;
    return figure;
  }
  const auto gpu = cuda::Device::open(*driver, 0);
  if (gpu) {
    figure = measure_ucx(lane, *gpu);
  } else {
    figure.reason = gpu.error().context;
  }
  return figure;
}

/// A copy out of memory that two processes share, as the mapped path does it.
LaneFigure measure_mapped() {
  LaneFigure figure;
  constexpr std::size_t kBytes = kLarge * kSpread;
  void* const shared =
      ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) {
    figure.reason = "no memory to share";
    return figure;
  }
  std::memset(shared, 1, kBytes);
  std::vector<std::byte> into(kBytes);
  const auto* const from = static_cast<const std::byte*>(shared);
  const SteadyClock clock;
  std::size_t blocks = 0;
  const TimePoint begun = clock.now();
  while (clock.now() < begun + kMeasured) {
    const std::size_t at = blocks++ % kSpread * kLarge;
    copy_bytes(into.data() + at, {from + at, kLarge}, CopyWay::streamed);
  }
  const double seconds = std::chrono::duration<double>(clock.now() - begun).count();
  ::munmap(shared, kBytes);
  figure.route = "a copy out of the node's memory, which the reader maps";
  figure.bytes_per_second = static_cast<double>(blocks * kLarge) / seconds;
  return figure;
}

/// Blocks of 32 KiB pieces into a GPU and out of it, whichever way is slower.
LaneFigure measure_gpu(int ordinal) {
  LaneFigure figure;
  figure.memory = "device";
  const auto broken = [&figure](const Error& why) {
    figure.reason = why.context;
    return figure;
  };
  const auto driver = cuda::Driver::load();
  if (!driver) return broken(driver.error());
  const auto device = cuda::Device::open(*driver, ordinal);
  if (!device) return broken(device.error());
  const auto cache = cuda::DeviceBuffer::allocate(*device, 2 * kWindow * kLarge);
  if (!cache) return broken(cache.error());
  const auto slot = cuda::StagingSlot::create(*device, kWindow * kLarge);
  if (!slot) return broken(slot.error());
  constexpr std::size_t kPiece = 32 * 1024;
  std::vector<cuda::DevicePiece> pieces;
  for (std::size_t at = 0; at < kWindow * kLarge; at += kPiece) {
    pieces.push_back({cache->address() + 2 * at, kPiece});
  }
  const SteadyClock clock;
  double slower = 0;
  for (const bool in : {true, false}) {
    std::size_t moved = 0;
    const TimePoint begun = clock.now();
    while (clock.now() < begun + kMeasured) {
      const auto ring = [](void*) {};
      Result<> queued = in ? (*slot)->scatter(pieces, ring, nullptr)
                           : (*slot)->gather(pieces, nullptr, ring, nullptr);
      if (queued) queued = (*slot)->synchronize();
      if (!queued) return broken(queued.error());
      moved += kWindow * kLarge;
    }
    const double seconds = std::chrono::duration<double>(clock.now() - begun).count();
    const double rate = static_cast<double>(moved) / seconds;
    slower = slower == 0 ? rate : std::min(slower, rate);
  }
  figure.route = "one copy and one kernel through pinned memory; the slower of both ways";
  figure.bytes_per_second = slower;
  return figure;
}

}  // namespace

std::vector<std::string> lanes_of(const MachineFacts& facts) {
  std::vector<std::string> lanes = {"mapped", "shm", "tcp"};
  const bool active = std::ranges::any_of(facts.hardware.devices, [](const auto& device) {
    return std::ranges::any_of(device.ports, &verbs::Port::active);
  });
  if (active && facts.may_open_rdma) lanes.emplace_back("rdma");
  for (std::size_t i = 0; i < facts.gpus.size(); ++i) {
    lanes.push_back(kGpuLane + std::to_string(i));
  }
  if (!facts.gpus.empty() && facts.ucx_cuda) {
    lanes.emplace_back(std::string("shm") + kOnGpu);
    if (active && facts.may_open_rdma && facts.ucx_gpu_direct) {
      lanes.emplace_back(std::string("rdma") + kOnGpu);
    }
  }
  return lanes;
}

LaneFigure measure_lane(const std::string& lane) {
  LaneFigure figure;
  if (lane == "mapped") {
    figure = measure_mapped();
  } else if (lane.starts_with(kGpuLane)) {
    figure = measure_gpu(std::atoi(lane.c_str() + std::strlen(kGpuLane)));
  } else if (lane.ends_with(kOnGpu)) {
    figure = measure_on_gpu(lane.substr(0, lane.size() - std::strlen(kOnGpu)));
    figure.memory = "device";
  } else {
    figure = measure_ucx(lane, nullptr);
  }
  figure.lane = lane;
  return figure;
}

LaneFigure probe_lane(const std::string& lane, Signals& signals) {
  LaneFigure figure;
  figure.lane = lane;
  ChildConfig config;
  config.name = "the probe of lane " + lane;
  config.words = {"doctor", "--probe", lane, "--log-level", "error"};
  Outcome<std::unique_ptr<Child>> child = Child::start(config);
  if (!child) {
    figure.reason = child.error().text;
    return figure;
  }
  const Outcome<std::string> line =
      (*child)->await_line(SteadyClock().now() + 2 * kPatience, signals);
  const std::optional<LaneFigure> told = line ? figure_from_line(*line) : std::nullopt;
  if (told) return *told;
  (*child)->stop(milliseconds(500));
  figure.reason = line ? "the probe said what is no figure" : line.error().text;
  return figure;
}

std::string to_line(const LaneFigure& figure) {
  return nlohmann::json{{"lane", figure.lane},
                        {"memory", figure.memory},
                        {"route", figure.route},
                        {"roundtrip_us", figure.roundtrip_us},
                        {"bytes_per_second", figure.bytes_per_second},
                        {"reason", figure.reason}}
      .dump();
}

std::optional<LaneFigure> figure_from_line(const std::string& line) {
  const nlohmann::json object = nlohmann::json::parse(line, nullptr, false);
  if (!object.is_object()) return std::nullopt;
  try {
    LaneFigure figure;
    object.at("lane").get_to(figure.lane);
    object.at("memory").get_to(figure.memory);
    object.at("route").get_to(figure.route);
    object.at("roundtrip_us").get_to(figure.roundtrip_us);
    object.at("bytes_per_second").get_to(figure.bytes_per_second);
    object.at("reason").get_to(figure.reason);
    return figure;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

}  // namespace membrain
