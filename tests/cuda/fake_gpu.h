// A GPU made of a thread: streams whose work happens later, in order, beside the caller.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "transport/cuda/api.h"

// The types behind the driver's handles.
namespace membrain::cuda {
struct Evnt {
  std::uint64_t recorded = 0;  // times it was put into a stream
  std::uint64_t reached = 0;   // the last of them that was come to
};
struct Strm {
  struct Work {
    std::function<void()> run;
    const Evnt* event = nullptr;  // to wait for
    std::uint64_t times = 0;
  };
  std::deque<Work> work;
  bool running = false;
};
}  // namespace membrain::cuda

namespace membrain::cuda::fake {

/// A function that always fails.
struct Failing {
  std::string function;
  Status status = kSuccess;
};

class Gpu {
 public:
  static Gpu& instance();
  ~Gpu();

  /// What a call of the driver's function answers: what a test wants, or what a failed device says.
  Status verdict(const char* function);
  void fail_call(std::uint64_t number, Status status);
  [[nodiscard]] std::uint64_t calls();

  void pause(bool paused);
  void settle();
  /// From now on everything fails, and nothing is under way.
  void break_down();
  void repair();

  Strm* open_stream();
  void close_stream(Strm* stream);
  void queue(Strm* stream, std::function<void()> run);
  void queue_wait(Strm* stream, const Evnt* event);
  /// Until `event` has been reached so often, by records or by `reach`.
  void queue_wait(Strm* stream, const Evnt* event, std::uint64_t times);
  void reach(Evnt* event);
  void record(Strm* stream, Evnt* event);
  bool reached(const Evnt* event);
  void synchronize(Strm* stream);
  void synchronize_all();

  /// Memory and other things that somebody must give back.
  void own(const void* what, std::size_t bytes, bool device);
  bool disown(const void* what);
  [[nodiscard]] bool is_device(Address address);
  /// Of an allocation of the device's; 0 if `what` is the beginning of none.
  [[nodiscard]] std::size_t bytes_of(const void* what);
  [[nodiscard]] std::size_t owned();

 private:
  struct Owned {
    std::size_t bytes;
    bool device;
  };

  Gpu();
  void work();
  bool step(std::unique_lock<std::mutex>& lock);

  const Failing failing_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Strm*> streams_;
  std::map<const void*, Owned> owned_;
  std::map<std::uint64_t, Status> failures_;  // by the number of the call
  std::uint64_t calls_ = 0;
  bool paused_ = false;
  bool broken_ = false;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace membrain::cuda::fake
