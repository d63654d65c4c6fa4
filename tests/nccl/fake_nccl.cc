// The functions of libnccl.so.2 that Membrain uses, for members of one process on the fake GPU.
#include "tests/nccl/fake_nccl.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "tests/cuda/fake_gpu.h"

using namespace membrain::nccl;
using membrain::cuda::Evnt;
using membrain::cuda::RawStream;
using membrain::cuda::fake::Gpu;

namespace {

/// One broadcast: what the root has sent, and who waits for it.
struct Broadcast {
  std::vector<char> bytes;
  bool sent = false;
  std::vector<Evnt*> waiting;
};

struct World {
  std::size_t size = 0;
  std::set<int> members;
  std::map<std::uint64_t, Broadcast> broadcasts;  // by their number
};

std::mutex mutex;
std::map<std::string, std::shared_ptr<World>> worlds;
std::map<std::uint64_t, Status> failures;
std::uint64_t made_calls = 0;
std::uint64_t made_ids = 0;
std::uint64_t made_broadcasts = 0;
std::uint64_t spoil = 0;
std::size_t open_communicators = 0;
std::int32_t reported_version = 22203;
bool member_lost = false;
bool hanging = false;
bool blocking = false;
std::condition_variable unblocked;

/// The lock is held.
Status verdict() {
  const auto failure = failures.find(made_calls++);
  return failure == failures.end() ? kSuccess : failure->second;
}

/// The event's work goes on. The lock of the GPU is not held.
void reach(Evnt* event) {
  Gpu::instance().reach(event);
}

}  // namespace

namespace membrain::nccl {
struct CommState {
  std::shared_ptr<World> world;
  int rank = 0;
  std::uint64_t broadcasts = 0;
  std::shared_ptr<bool> aborted = std::make_shared<bool>(false);
  std::vector<std::unique_ptr<Evnt>> waits;
};
}  // namespace membrain::nccl

namespace membrain::nccl::fake {

void set_version(std::int32_t version) {
  const std::lock_guard lock(mutex);
  reported_version = version;
}
void fail_call(std::uint64_t skip, Status status) {
  const std::lock_guard lock(mutex);
  failures.clear();
  failures[made_calls + skip] = status;
}
std::uint64_t calls() {
  const std::lock_guard lock(mutex);
  return made_calls;
}
void lose_member(bool lost) {
  const std::lock_guard lock(mutex);
  member_lost = lost;
}
void hang(bool on) {
  const std::lock_guard lock(mutex);
  hanging = on;
}
void block(bool on) {
  {
    const std::lock_guard lock(mutex);
    blocking = on;
  }
  unblocked.notify_all();
}
void spoil_every(std::uint64_t broadcasts) {
  const std::lock_guard lock(mutex);
  spoil = broadcasts;
}
std::size_t open() {
  const std::lock_guard lock(mutex);
  return open_communicators;
}

}  // namespace membrain::nccl::fake

extern "C" {

Status ncclGetVersion(std::int32_t* version) {
  const std::lock_guard lock(mutex);
  *version = reported_version;
  return verdict();
}

Status ncclGetUniqueId(UniqueId* id) {
  const std::lock_guard lock(mutex);
  const std::string text = "world " + std::to_string(++made_ids);
  std::memcpy(id->bytes.data(), text.data(), text.size());
  return verdict();
}

Status ncclCommInitRankConfig(Comm* comm, std::int32_t size, UniqueId id, std::int32_t rank,
                              Config* config) {
  std::unique_lock lock(mutex);
  unblocked.wait(lock, [] { return !blocking; });
  if (const Status status = verdict(); status != kSuccess) return status;
  if (config->magic != 0xcafebeef || config->blocking != 0) return kInvalidArgument;
  std::shared_ptr<World>& world = worlds[std::string(id.bytes.data(), id.bytes.size())];
  if (!world) world = std::make_shared<World>();
  if (world->size == 0) world->size = static_cast<std::size_t>(size);
  const bool sense = rank >= 0 && rank < size && world->size == static_cast<std::size_t>(size);
  if (!sense || !world->members.insert(rank).second) return kInvalidUsage;
  *comm = new CommState;
  (*comm)->world = world;
  (*comm)->rank = rank;
  ++open_communicators;
  return kInProgress;
}

Status ncclCommGetAsyncError(Comm comm, Status* status) {
  const std::lock_guard lock(mutex);
  constexpr Status kRemoteError = 6;
  *status = member_lost                                       ? kRemoteError
            : comm->world->members.size() < comm->world->size ? kInProgress
                                                              : kSuccess;
  return verdict();
}

Status ncclBroadcast(const void* from, void* to, std::size_t count, std::int32_t type,
                     std::int32_t root, Comm comm, RawStream stream) {
  const std::lock_guard lock(mutex);
  if (const Status status = verdict(); status != kSuccess) return status;
  if (type != kUint8 || root < 0 || static_cast<std::size_t>(root) >= comm->world->size) {
    return kInvalidArgument;
  }
  const std::uint64_t number = comm->broadcasts++;
  const auto world = comm->world;
  const auto aborted = comm->aborted;
  Evnt* const wait = comm->waits.emplace_back(std::make_unique<Evnt>()).get();
  Broadcast& broadcast = world->broadcasts[number];
  if (comm->rank == root) {
    Gpu::instance().queue(stream, [=] {
      std::vector<Evnt*> waiting;
      {
        const std::lock_guard inner(mutex);
        if (*aborted || hanging) return;
        Broadcast& mine = world->broadcasts[number];
        const auto* const bytes = static_cast<const char*>(from);
        mine.bytes.assign(bytes, bytes + count);
        if (spoil != 0 && ++made_broadcasts % spoil == 0) mine.bytes[count / 2] ^= 4;
        mine.sent = true;
        waiting.swap(mine.waiting);
      }
      for (Evnt* const one : waiting) reach(one);
    });
    if (hanging) Gpu::instance().queue_wait(stream, wait, 1);
  } else {
    if (!broadcast.sent) {
      broadcast.waiting.push_back(wait);
      Gpu::instance().queue_wait(stream, wait, 1);
    }
    Gpu::instance().queue(stream, [=] {
      const std::lock_guard inner(mutex);
      const Broadcast& sent = world->broadcasts[number];
      if (!*aborted && sent.sent) std::memcpy(to, sent.bytes.data(), count);
    });
  }
  return kSuccess;
}

Status ncclCommAbort(Comm comm) {
  {
    const std::lock_guard lock(mutex);
    *comm->aborted = true;
    for (auto& [number, broadcast] : comm->world->broadcasts) {
      std::erase_if(broadcast.waiting, [comm](const Evnt* event) {
        return std::ranges::any_of(comm->waits,
                                   [event](const auto& mine) { return mine.get() == event; });
      });
    }
    --open_communicators;
  }
  for (const auto& event : comm->waits) reach(event.get());
  Gpu::instance().settle();  // nobody waits for its events any more
  delete comm;
  return kSuccess;
}

const char* ncclGetErrorString(Status status) {
  return status == kInvalidUsage ? "invalid usage" : "an error of some kind";
}

const char* ncclGetLastError(Comm) {
  return "the fake NCCL was told to";
}

}  // extern "C"
