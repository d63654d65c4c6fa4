#include "tools/loop_thread.h"

#include <pthread.h>

#include <future>
#include <memory>
#include <utility>

#include "base/check.h"

namespace membrain {
namespace {

/// `done` is shared: whoever waits may be gone before `set_value` has returned.
Task<> run_and_tell(Task<> work, std::shared_ptr<std::promise<void>> done) {
  Task<> task = std::move(work);
  co_await task;
  done->set_value();
}

}  // namespace

LoopThread::LoopThread(std::string name) : name_(std::move(name)), loop_(clock_) {}

LoopThread::~LoopThread() {
  stop();
}

void LoopThread::start() {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), name_.c_str());
    loop_.run();
  });
}

void LoopThread::run(Task<> task) {
  auto done = std::make_shared<std::promise<void>>();
  std::future<void> ended = done->get_future();
  const Result<> posted =
      loop_.inbox().post([this, work = std::move(task), done = std::move(done)]() mutable {
        loop_.spawn(run_and_tell(std::move(work), std::move(done)));
      });
  check(posted.has_value(), "a loop that is stopped in order has room in its inbox");
  ended.wait();
}

void LoopThread::stop() {
  if (!thread_.joinable()) return;
  loop_.stop();
  thread_.join();
}

}  // namespace membrain
