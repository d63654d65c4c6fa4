#include "tests/cuda/fake_gpu.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace membrain::cuda::fake {

namespace {

constexpr Status kIllegalAddress = 700;

/// Its next piece of work can be done.
bool runnable(const Strm& stream) {
  if (stream.work.empty()) return false;
  const Strm::Work& front = stream.work.front();
  return front.event == nullptr || front.event->reached >= front.times;
}

/// "cuModuleLoadData=222" in MEMBRAIN_FAKE_CUDA_FAILS: for processes that no test is inside of.
Failing failing_by_environment() {
  const char* const text = std::getenv("MEMBRAIN_FAKE_CUDA_FAILS");
  const std::string_view said = text == nullptr ? "" : text;
  const std::size_t equals = said.find('=');
  if (equals == std::string_view::npos) return {};
  return {std::string(said.substr(0, equals)), std::atoi(text + equals + 1)};
}

}  // namespace

Gpu& Gpu::instance() {
  static Gpu gpu;
  return gpu;
}

Gpu::Gpu() : failing_(failing_by_environment()), thread_([this] { work(); }) {}

Gpu::~Gpu() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Status Gpu::verdict(const char* function) {
  const std::lock_guard lock(mutex_);
  if (function == failing_.function) return failing_.status;
  const auto failure = failures_.find(calls_++);
  if (failure != failures_.end()) return failure->second;
  return broken_ ? kIllegalAddress : kSuccess;
}

void Gpu::fail_call(std::uint64_t number, Status status) {
  const std::lock_guard lock(mutex_);
  failures_.clear();
  failures_[calls_ + number] = status;
}

std::uint64_t Gpu::calls() {
  const std::lock_guard lock(mutex_);
  return calls_;
}

void Gpu::pause(bool paused) {
  {
    const std::lock_guard lock(mutex_);
    paused_ = paused;
  }
  changed_.notify_all();
}

void Gpu::settle() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    return std::ranges::none_of(streams_, [&](const Strm* stream) {
      return stream->running || (!paused_ && runnable(*stream));
    });
  });
}

void Gpu::break_down() {
  {
    std::unique_lock lock(mutex_);
    broken_ = true;
    for (Strm* stream : streams_) stream->work.clear();
    changed_.wait(lock, [&] {
      return std::ranges::none_of(streams_, [](const Strm* stream) { return stream->running; });
    });
  }
  changed_.notify_all();
}

void Gpu::repair() {
  const std::lock_guard lock(mutex_);
  broken_ = false;
  failures_.clear();
}

Strm* Gpu::open_stream() {
  const std::lock_guard lock(mutex_);
  return streams_.emplace_back(new Strm);
}

void Gpu::close_stream(Strm* stream) {
  synchronize(stream);
  const std::lock_guard lock(mutex_);
  std::erase(streams_, stream);
  delete stream;
}

void Gpu::queue(Strm* stream, std::function<void()> run) {
  {
    const std::lock_guard lock(mutex_);
    stream->work.push_back({std::move(run), nullptr, 0});
  }
  changed_.notify_all();
}

void Gpu::queue_wait(Strm* stream, const Evnt* event) {
  {
    const std::lock_guard lock(mutex_);
    stream->work.push_back({[] {}, event, event->recorded});
  }
  changed_.notify_all();
}

void Gpu::queue_wait(Strm* stream, const Evnt* event, std::uint64_t times) {
  {
    const std::lock_guard lock(mutex_);
    stream->work.push_back({[] {}, event, times});
  }
  changed_.notify_all();
}

void Gpu::reach(Evnt* event) {
  {
    const std::lock_guard lock(mutex_);
    ++event->reached;
  }
  changed_.notify_all();
}

void Gpu::record(Strm* stream, Evnt* event) {
  {
    const std::lock_guard lock(mutex_);
    const std::uint64_t times = ++event->recorded;
    stream->work.push_back({[this, event, times] {
                              const std::lock_guard inner(mutex_);
                              event->reached = times;
                            },
                            nullptr, 0});
  }
  changed_.notify_all();
}

bool Gpu::reached(const Evnt* event) {
  const std::lock_guard lock(mutex_);
  return event->reached >= event->recorded;
}

void Gpu::synchronize(Strm* stream) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stream->work.empty() && !stream->running; });
}

void Gpu::synchronize_all() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    return std::ranges::all_of(
        streams_, [](const Strm* stream) { return stream->work.empty() && !stream->running; });
  });
}

void Gpu::own(const void* what, std::size_t bytes, bool device) {
  const std::lock_guard lock(mutex_);
  owned_[what] = {bytes, device};
}

bool Gpu::disown(const void* what) {
  const std::lock_guard lock(mutex_);
  return owned_.erase(what) != 0;
}

std::size_t Gpu::bytes_of(const void* what) {
  const std::lock_guard lock(mutex_);
  const auto found = owned_.find(what);
  return found == owned_.end() || !found->second.device ? 0 : found->second.bytes;
}

bool Gpu::is_device(Address address) {
  const std::lock_guard lock(mutex_);
  auto next = owned_.upper_bound(reinterpret_cast<const void*>(address));
  if (next == owned_.begin()) return false;
  --next;
  const auto start = reinterpret_cast<Address>(next->first);
  return next->second.device && address < start + next->second.bytes;
}

std::size_t Gpu::owned() {
  const std::lock_guard lock(mutex_);
  return owned_.size() + streams_.size();
}

void Gpu::work() {
  std::unique_lock lock(mutex_);
  while (!over_) {
    if (paused_ || !step(lock)) changed_.wait(lock);
  }
}

/// Does the first piece of work of any stream that can be done; streams take turns.
bool Gpu::step(std::unique_lock<std::mutex>& lock) {
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    Strm* const stream = streams_[i];
    if (!runnable(*stream)) continue;
    Strm::Work& front = stream->work.front();
    const std::function<void()> run = std::move(front.run);
    stream->work.pop_front();
    stream->running = true;
    std::rotate(streams_.begin(), streams_.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                streams_.end());
    lock.unlock();
    run();
    lock.lock();
    stream->running = false;
    changed_.notify_all();
    return true;
  }
  return false;
}

}  // namespace membrain::cuda::fake
