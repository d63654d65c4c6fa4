// What the fabric costs: blocks fetched through it, and by the raw loop of the same run.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "bench/raw_get.h"
#include "bench/transfer_raw.h"
#include "transport/ucx/ucx_fabric.h"

namespace membrain {
namespace {

/// Answers every frame with a block of registered memory.
class BlockServer final : public Receiver {
 public:
  BlockServer(const std::shared_ptr<UcxContext>& context, std::size_t block_bytes,
              std::size_t window)
      : block_bytes_(block_bytes), memory_(block_bytes * window) {
    fabric_ = make_ucx_fabric(context, loop_, {"bench", "server"}).value();
    region_ = fabric_->register_memory(memory_).value();
    fabric_->set_receiver(*this);
    address = fabric_->listen("127.0.0.1:0").value();
    for (std::size_t i = 0; i < memory_.size(); ++i) memory_[i] = static_cast<std::byte>(i % 251);
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~BlockServer() {
    loop_.stop();
    thread_.join();
    fabric_.reset();
  }
  void on_message(PeerId peer, std::span<const std::byte> frame, Payload) override {
    const auto slot = static_cast<std::size_t>(frame.front());
    const Segment block{memory_.data() + slot * block_bytes_, block_bytes_, region_.get()};
    sends_.remove_if([](const Completion& sent) { return sent.done(); });
    sends_.emplace_back(loop_.ready());
    fabric_->send(peer, frame, {&block, 1}, sends_.back());
  }
  void on_lost(PeerId, const Error&) override {}

  Address address;

 private:
  std::size_t block_bytes_;
  SteadyClock clock_;
  Loop loop_{clock_};
  std::vector<std::byte> memory_;
  std::unique_ptr<Region> region_;
  std::unique_ptr<Fabric> fabric_;
  std::list<Completion> sends_;
  std::thread thread_;
};

/// Asks for blocks, a window at a time; driven by the benchmark's thread.
class BlockReader final : public Receiver {
 public:
  BlockReader(const std::shared_ptr<UcxContext>& context, std::size_t block_bytes,
              std::size_t window)
      : block_bytes_(block_bytes), memory_(block_bytes * window), free_(window) {
    fabric_ = make_ucx_fabric(context, loop_, {"bench", "reader"}).value();
    region_ = fabric_->register_memory(memory_).value();
    fabric_->set_receiver(*this);
  }
  void connect(const Address& address) {
    loop_.spawn(connect_to(address));
    loop_.run();
  }
  void run(std::size_t blocks) {
    loop_.spawn(fetch(blocks));
    loop_.run();
  }
  void on_message(PeerId, std::span<const std::byte> frame, Payload payload) override {
    const auto slot = static_cast<std::size_t>(frame.front());
    const Segment block{memory_.data() + slot * block_bytes_, block_bytes_, region_.get()};
    fabric_->receive(std::move(payload), {&block, 1}, *landings_[slot]);
  }
  void on_lost(PeerId, const Error&) override {}
  std::string_view lane() const { return fabric_->lane(peer_); }

 private:
  Task<> connect_to(Address address) {
    Task<Result<PeerId>> connecting =
        fabric_->connect(std::move(address), clock_.now() + std::chrono::seconds(5));
    const Result<PeerId> connected = co_await connecting;
    peer_ = connected.value();
    loop_.stop();
  }
  Task<> fetch_in_slot(std::size_t slot, std::size_t& left, Completion& all) {
    while (left > 0) {
      --left;
      Completion landed(loop_.ready());
      landings_[slot] = &landed;
      const std::byte name = static_cast<std::byte>(slot);
      const Result<> asked = fabric_->send(peer_, {&name, 1});
      if (!asked) landed.finish(asked);
      const Result<> here = co_await landed;
      if (!here) break;
    }
    all.finish({});
  }
  Task<> fetch(std::size_t blocks) {
    landings_.resize(free_);
    Completion all(loop_.ready(), static_cast<std::uint32_t>(free_));
    std::size_t left = blocks;
    for (std::size_t slot = 0; slot < free_; ++slot) loop_.spawn(fetch_in_slot(slot, left, all));
    const Result<> ended = co_await all;
    check(ended.has_value(), "slots end without an outcome");
    loop_.stop();
  }

  std::size_t block_bytes_;
  SteadyClock clock_;
  Loop loop_{clock_};
  std::vector<std::byte> memory_;
  std::unique_ptr<Region> region_;
  std::unique_ptr<Fabric> fabric_;
  PeerId peer_;
  std::size_t free_;
  std::vector<Completion*> landings_;
};

void count(benchmark::State& state, std::size_t blocks, std::string_view lane) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(blocks) * state.range(0));
  state.SetLabel(std::string(lane));
}

/// About 64 MiB per iteration.
std::size_t blocks_per_run(const benchmark::State& state) {
  return std::max<std::size_t>(16,
                               (std::size_t{64} << 20) / static_cast<std::size_t>(state.range(0)));
}

void fetch_through_fabric(benchmark::State& state, const std::string& transports) {
  UcxContextConfig config;
  config.transports = transports;
  const std::shared_ptr<UcxContext> context = UcxContext::create(config).value();
  const auto bytes = static_cast<std::size_t>(state.range(0));
  const auto window = static_cast<std::size_t>(state.range(1));
  BlockServer server(context, bytes, window);
  BlockReader reader(context, bytes, window);
  reader.connect(server.address);
  const std::size_t blocks = blocks_per_run(state);
  reader.run(blocks);
  for (auto _ : state) reader.run(blocks);
  count(state, blocks, reader.lane());
}

void fetch_raw(benchmark::State& state, const std::string& transports) {
  RawTransferConfig config;
  config.transports = transports;
  config.block_bytes = static_cast<std::size_t>(state.range(0));
  config.window = static_cast<std::size_t>(state.range(1));
  const auto raw = RawTransfer::create(config);
  const std::size_t blocks = blocks_per_run(state);
  if (!raw || !(*raw)->run(blocks) || !(*raw)->intact()) return state.SkipWithError("raw loop");
  for (auto _ : state) {
    if (!(*raw)->run(blocks)) return state.SkipWithError("raw loop");
  }
  count(state, blocks, (*raw)->lane());
}

/// Batches asked for by one request each.
void fetch_raw_batch(benchmark::State& state, RawAnswer answer) {
  RawTransferConfig config;
  config.transports = "tcp,self";
  config.block_bytes = static_cast<std::size_t>(state.range(0));
  config.window = static_cast<std::size_t>(state.range(1));
  config.batch = static_cast<std::size_t>(state.range(2));
  config.answer = answer;
  config.blocks = blocks_per_run(state) / 2;
  const auto raw = RawTransfer::create(config);
  const std::size_t blocks = blocks_per_run(state);
  if (!raw || !(*raw)->run(blocks) || !(*raw)->intact()) return state.SkipWithError("raw loop");
  for (auto _ : state) {
    if (!(*raw)->run(blocks)) return state.SkipWithError("raw loop");
  }
  count(state, blocks, (*raw)->lane());
}

/// One-sided reads with UCX's own settings: forked by main, before anything of UCX.
std::unique_ptr<RawGet> default_get;

void get_default(benchmark::State& state) {
  const std::size_t blocks = blocks_per_run(state);
  if (!default_get->run(blocks)) return state.SkipWithError("raw reads");
  for (auto _ : state) {
    if (!default_get->run(blocks)) return state.SkipWithError("raw reads");
  }
  count(state, blocks, "tcp");
}
BENCHMARK(get_default)->Arg(1 << 20)->ArgName("bytes")->UseRealTime();

void axes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"bytes", "window"})->UseRealTime();
  for (const std::int64_t bytes : {4 << 10, 64 << 10, 1 << 20, 16 << 20}) bench->Args({bytes, 4});
}
BENCHMARK_CAPTURE(fetch_raw, tcp, "tcp,self")->Apply(axes);
BENCHMARK_CAPTURE(fetch_through_fabric, tcp, "tcp,self")->Apply(axes);
/// Batches of 16, and one MiB in messages of several sizes; one request at a time.
void batches(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"bytes", "window", "batch"})->UseRealTime();
  bench->Args({4 << 10, 1, 16});
  for (const std::int64_t batch : {16, 8, 4, 2, 1}) bench->Args({(1 << 20) / batch, 1, batch});
}
BENCHMARK_CAPTURE(fetch_raw_batch, messages, RawAnswer::message_per_block)->Apply(batches);
BENCHMARK_CAPTURE(fetch_raw_batch, one, RawAnswer::one_message)->Apply(batches);
BENCHMARK_CAPTURE(fetch_raw_batch, gathered, RawAnswer::gathered_message)->Apply(batches);
BENCHMARK_CAPTURE(fetch_raw, pingpong, "tcp,self")
    ->Args({4 << 10, 1})
    ->ArgNames({"bytes", "window"})
    ->UseRealTime();
BENCHMARK_CAPTURE(fetch_raw, shm, "")->Apply(axes);
BENCHMARK_CAPTURE(fetch_through_fabric, shm, "")->Apply(axes);

}  // namespace
}  // namespace membrain

int main(int argc, char** argv) {
  membrain::set_log_level(membrain::LogLevel::warn);
  membrain::default_get = membrain::RawGet::fork({});
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  membrain::default_get.reset();
  return 0;
}
