#include "cache/client/nccl_collective.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "transport/nccl/block_broadcast.h"

namespace membrain {

namespace {

/// How long the thread is waited for when its time is over.
constexpr Duration kDrain = std::chrono::milliseconds(200);
constexpr Duration kLastDrain = std::chrono::seconds(1);

nccl::UniqueId id_of(const wire::CollectiveId& id) {
  nccl::UniqueId made;
  static_assert(sizeof made.bytes == sizeof id);
  std::memcpy(made.bytes.data(), id.data(), sizeof id);
  return made;
}

}  // namespace

/// One run, as loop and thread see it.
struct NcclCollective::Run {
  Run(const Clock& clock, const CollectiveJob& wanted)
      : id(wanted.id), patience(clock, wanted.deadline), right(wanted.places->size()) {
    set.root = wanted.root;
    set.blocks = static_cast<std::uint32_t>(wanted.places->size());
    set.chunk_blocks = wanted.chunk_blocks;
    set.block_bytes = wanted.block_bytes;
    // Called inside the gate: the places are there.
    set.pieces_of = [places = wanted.places](std::uint32_t block,
                                             std::vector<cuda::DevicePiece>& pieces) {
      (*places)[block].for_each_piece([&](const std::byte* data, std::size_t bytes) {
        pieces.push_back({reinterpret_cast<cuda::Address>(data), bytes});
      });
    };
  }

  const wire::CollectiveId id;
  nccl::BlockSet set;
  nccl::Patience patience;
  nccl::PageGate gate;
  std::vector<bool> right;  ///< the thread's until `ended`
  bool whole = false;       ///< nothing failed; likewise
  std::atomic<bool> ended = false;
};

/// The thread, and all that it touches. It may outlive the loop.
struct NcclCollective::Worker {
  Worker(std::shared_ptr<const nccl::Library> from, std::shared_ptr<const cuda::Device> gpu,
         std::uint32_t member, std::uint32_t members)
      : library(std::move(from)), device(std::move(gpu)), rank(member), size(members) {}

  /// False if there is no thread, and none can be had.
  bool post(const std::shared_ptr<Worker>& self, std::function<void()> job);
  void work();
  void run(Run& run, std::size_t chunk_bytes);
  Result<> prepare(Run& run, std::size_t chunk_bytes);
  void give_up();
  void ring();

  const std::shared_ptr<const nccl::Library> library;
  const std::shared_ptr<const cuda::Device> device;
  const std::uint32_t rank;
  const std::uint32_t size;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> jobs;
  std::shared_ptr<Bell> bell;  ///< null once nobody listens any more
  bool over = false;
  std::atomic<bool> gone = false;  ///< everything has been given back
  std::thread thread;              ///< the loop's

  // The thread's own.
  std::unique_ptr<nccl::BlockBroadcast> broadcast;
  std::unique_ptr<nccl::Communicator> communicator;
  wire::CollectiveId id{};
};

// ---- the thread

bool NcclCollective::Worker::post(const std::shared_ptr<Worker>& self, std::function<void()> job) {
  try {
    if (!thread.joinable()) thread = std::thread([self] { self->work(); });
  } catch (const std::system_error&) {
    return false;
  }
  {
    const std::lock_guard lock(mutex);
    jobs.push_back(std::move(job));
  }
  changed.notify_one();
  return true;
}

void NcclCollective::Worker::work() {
  pthread_setname_np(pthread_self(), "mb-nccl");
  std::unique_lock lock(mutex);
  while (true) {
    changed.wait(lock, [this] { return over || !jobs.empty(); });
    if (over) break;
    const std::function<void()> job = std::move(jobs.front());
    jobs.pop_front();
    lock.unlock();
    job();
    lock.lock();
  }
  lock.unlock();
  give_up();
  gone = true;
  ring();
}

void NcclCollective::Worker::ring() {
  const std::lock_guard lock(mutex);
  if (bell) bell->ring();
}

/// The communicator goes first: what hangs on it holds the buffers' stream.
void NcclCollective::Worker::give_up() {
  communicator.reset();
  broadcast.reset();
  id = {};
}

/// The communicator that is wanted, and the buffers.
Result<> NcclCollective::Worker::prepare(Run& run, std::size_t chunk_bytes) {
  if (!communicator || id != run.id) {
    give_up();
    auto made =
        nccl::Communicator::create(library, device, id_of(run.id), rank, size, run.patience);
    if (!made) return fail(made.error());
    communicator = std::move(*made);
    id = run.id;
  }
  if (!broadcast) {
    auto made = nccl::BlockBroadcast::create(device, chunk_bytes);
    if (!made) return fail(made.error());
    broadcast = std::move(*made);
  }
  return {};
}

void NcclCollective::Worker::run(Run& run, std::size_t chunk_bytes) {
  Result<> done = prepare(run, chunk_bytes);
  if (done) done = broadcast->run(*communicator, run.set, run.patience, run.gate, run.right);
  run.whole = done.has_value();
  run.ended = true;  // no page is touched any more
  ring();
  if (!done) give_up();
}

// ---- the loop

NcclCollective::NcclCollective(Loop& loop, std::shared_ptr<const nccl::Library> library,
                               std::shared_ptr<const cuda::Device> device, std::size_t chunk_bytes,
                               std::uint32_t rank, std::uint32_t size)
    : loop_(loop),
      chunk_bytes_(chunk_bytes),
      bell_(std::make_shared<Bell>(loop)),
      worker_(std::make_shared<Worker>(std::move(library), std::move(device), rank, size)) {
  worker_->bell = bell_;
}

NcclCollective::~NcclCollective() {
  check(!worker_->thread.joinable(), "an NcclCollective was destroyed before it was closed");
}

/// None while the thread hangs in an earlier run.
std::uint32_t NcclCollective::most_blocks(std::uint64_t block_bytes,
                                          std::size_t pieces) const noexcept {
  if (last_ && !last_->ended) return 0;
  return nccl::BlockBroadcast::most_blocks(chunk_bytes_, block_bytes, pieces);
}

template <class Over>
Task<> NcclCollective::wait(Over over, TimePoint deadline) {
  Task<> waiting = bell_->until([&] {
    const TimePoint now = loop_.now();
    return over() || now >= deadline + kDrain || (stopped_at_ && now >= *stopped_at_ + kDrain);
  });
  co_await waiting;
}

/// The first of a process may take a second: NCCL looks for networks.
Task<wire::CollectiveId> NcclCollective::make_id(TimePoint deadline) {
  struct Made {
    wire::CollectiveId id{};
    std::atomic<bool> done = false;
  };
  const auto made = std::make_shared<Made>();
  const auto make = [made, worker = worker_.get()] {
    if (const Result<nccl::UniqueId> id = worker->library->make_id()) {
      std::memcpy(made->id.data(), id->bytes.data(), sizeof made->id);
    }
    made->done = true;
    worker->ring();
  };
  stopped_at_.reset();
  if (!worker_->post(worker_, make)) co_return wire::CollectiveId{};
  Task<> waiting = wait([&] { return made->done.load(); }, deadline);
  co_await waiting;
  co_return made->done ? made->id : wire::CollectiveId{};
}

Task<std::vector<bool>> NcclCollective::run(CollectiveJob job) {
  const auto run = std::make_shared<Run>(loop_.clock(), job);
  const TimePoint deadline = job.deadline;
  const std::vector<bool> none(run->set.blocks);
  last_ = run;
  current_ = {};
  stopped_at_.reset();
  const auto work = [run, worker = worker_.get(), bytes = chunk_bytes_] {
    worker->run(*run, bytes);
  };
  if (!worker_->post(worker_, work)) {
    run->ended = true;
    co_return none;
  }
  Task<> waiting = wait([&] { return run->ended.load(); }, deadline);
  co_await waiting;
  if (!run->ended) {
    run->patience.stop();
    // A copy to or from the places that is under way is the GPU's, and will end.
    Task<> leaving = bell_->until([&] { return run->ended || run->gate.shut(); });
    co_await leaving;
    log(LogLevel::warn, "NCCL does not let go of a broadcast; it is not used until it does");
    co_return none;
  }
  if (run->whole) current_ = run->id;
  co_return run->right;
}

void NcclCollective::stop() noexcept {
  stopped_at_ = loop_.now();
  if (last_) last_->patience.stop();
}

Task<> NcclCollective::close() {
  if (worker_->thread.joinable()) {
    {
      const std::lock_guard lock(worker_->mutex);
      worker_->over = true;
    }
    worker_->changed.notify_one();
    stopped_at_.reset();
    Task<> leaving = wait([&] { return worker_->gone.load(); }, loop_.now() + kLastDrain);
    co_await leaving;
    if (worker_->gone) {
      worker_->thread.join();
    } else {
      log(LogLevel::warn, "NCCL does not let go of a thread; it is left behind");
      worker_->thread.detach();
    }
  }
  const std::lock_guard lock(worker_->mutex);
  worker_->bell.reset();
}

}  // namespace membrain
