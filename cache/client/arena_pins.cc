#include "cache/client/arena_pins.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/log.h"
#include "transport/cuda/memory.h"

namespace membrain {

struct ArenaPins::Held : PinnedArena {
  std::shared_ptr<const MappedArena> arena;  ///< go last
  std::shared_ptr<const WritableArena> writable;
  std::vector<cuda::HostRegistration> locked;
};

ArenaPins::ArenaPins(std::shared_ptr<const cuda::Device> device, std::size_t at_once)
    : device_(std::move(device)),
      at_once_(at_once),
      thread_(std::make_shared<ThreadPool>("mb-lock", 1)) {}

ArenaPins::~ArenaPins() {
  stop();
  thread_->stop();
}

bool ArenaPins::needs_writable() const noexcept {
  return !device_->facts().read_only_registration;
}

/// Null if any of it cannot be.
std::unique_ptr<const ArenaPins::Held> ArenaPins::lock(
    std::shared_ptr<const MappedArena> arena, std::shared_ptr<const WritableArena> writable) const {
  using Access = cuda::HostRegistration::Access;
  auto held = std::make_unique<Held>();
  held->arena = std::move(arena);
  held->writable = needs_writable() ? std::move(writable) : nullptr;
  held->slots = held->writable ? held->writable->slots() : held->arena->slots();
  held->part_bytes = at_once_;
  const std::span<const std::byte> slots = held->slots;
  if (slots.size() != held->arena->slots().size()) return nullptr;
  for (std::size_t at = 0; at < slots.size(); at += at_once_) {
    if (stopped_) return nullptr;
    const auto part = slots.subspan(at, std::min(at_once_, slots.size() - at));
    Result<cuda::HostRegistration> locked =
        cuda::HostRegistration::create(device_, {const_cast<std::byte*>(part.data()), part.size()},
                                       held->writable ? Access::read_write : Access::read_only);
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

void ArenaPins::pin(std::shared_ptr<const MappedArena> arena,
                    std::shared_ptr<const WritableArena> writable,
                    std::function<void(Pinned)> done) {
  const auto work = [this, arena, writable, done] {
    std::unique_ptr<const Held> held = lock(arena, writable);
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
