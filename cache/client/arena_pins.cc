#include "cache/client/arena_pins.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/log.h"
#include "transport/cuda/memory.h"

namespace membrain {

namespace {

constexpr std::size_t kAtOnce = std::size_t{1} << 30;

}  // namespace

struct ArenaPins::Held {
  std::shared_ptr<const MappedArena> arena;  ///< goes last
  std::vector<cuda::HostRegistration> locked;
};

ArenaPins::ArenaPins(std::shared_ptr<const cuda::Device> device)
    : device_(std::move(device)), thread_(std::make_shared<ThreadPool>("mb-lock", 1)) {}

ArenaPins::~ArenaPins() {
  stop();
  thread_->stop();
}

/// Null if any of it cannot be.
std::unique_ptr<const ArenaPins::Held> ArenaPins::lock(
    std::shared_ptr<const MappedArena> arena) const {
  auto held = std::make_unique<Held>();
  held->arena = std::move(arena);
  const std::span<const std::byte> slots = held->arena->slots();
  for (std::size_t at = 0; at < slots.size(); at += kAtOnce) {
    if (stopped_) return nullptr;
    const auto part = slots.subspan(at, std::min(kAtOnce, slots.size() - at));
    Result<cuda::HostRegistration> locked =
        cuda::HostRegistration::create(device_, {const_cast<std::byte*>(part.data()), part.size()},
                                       cuda::HostRegistration::Access::read_only);
    if (!locked) {
      log(LogLevel::warn,
          "node {}: its arena cannot be page-locked for the GPU ({}): blocks go through slots",
          held->arena->node().value, locked.error().context);
      return nullptr;
    }
    held->locked.push_back(std::move(*locked));
  }
  log(LogLevel::info, "node {}: {} MiB of its arena are page-locked for the GPU",
      held->arena->node().value, slots.size() >> 20);
  return held;
}

void ArenaPins::pin(std::shared_ptr<const MappedArena> arena, std::function<void(Pinned)> done) {
  const auto work = [this, arena, done] {
    std::unique_ptr<const Held> held = lock(arena);
    if (!held) return done(nullptr);
    // Unlocked by the thread too, while there is one.
    const auto unlock = [thread = thread_](const Held* last) {
      if (!thread->post([last] { delete last; })) delete last;
    };
    done(Pinned(std::shared_ptr<const Held>(held.release(), unlock)));
  };
  if (!thread_->post(work)) done(nullptr);
}

}  // namespace membrain
