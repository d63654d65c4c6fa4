#include "transport/ucx/name_lookup.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <atomic>
#include <cerrno>
#include <memory>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "transport/signal.h"

namespace membrain {
namespace {

constexpr int kMaxLookups = 16;
std::atomic<int> under_way = 0;

/// Shared with the thread, which may outlive whoever has asked, and his loop.
struct Asked {
  Asked(Address name, NameLook by) : address(std::move(name)), look(std::move(by)) {}
  const Address address;
  const NameLook look;
  const Descriptor done{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::atomic<bool> answered = false;
  std::optional<Result<SocketAddress>> answer;  ///< the thread's until `answered`
};

void work(const std::shared_ptr<Asked>& asked) {
  ::pthread_setname_np(::pthread_self(), "mb-names");
  asked->answer.emplace(asked->look(asked->address));
  asked->answered.store(true, std::memory_order_release);
  --under_way;
  static_cast<void>(::eventfd_write(asked->done.fd(), 1));
}

Result<> begin(const std::shared_ptr<Asked>& asked) {
  if (!asked->done) return fail(Errc::out_of_capacity, "eventfd", errno);
  if (++under_way > kMaxLookups) {
    --under_way;
    return fail(Errc::out_of_capacity, "too many names are looked up: does the resolver answer?");
  }
  try {
    std::thread([asked] { work(asked); }).detach();
  } catch (const std::system_error& error) {
    --under_way;
    return fail(Errc::out_of_capacity, "a thread that looks a name up", error.code().value());
  }
  return {};
}

/// Wakes who waits; it looks by itself.
class Waking final : public FdHandler {
 public:
  explicit Waking(Signal& news) noexcept : news_(news) {}
  void on_ready(std::uint32_t) override { news_.raise(); }

 private:
  Signal& news_;
};

}  // namespace

Task<Result<SocketAddress>> look_up(Loop& loop, Address address, TimePoint deadline,
                                    NameLook look) {
  const Result<std::optional<SocketAddress>> number = resolve_number(address);
  if (!number) co_return fail(number.error());
  if (*number) co_return **number;
  const auto asked = std::make_shared<Asked>(std::move(address), std::move(look));
  if (const Result<> begun = begin(asked); !begun) co_return fail(begun.error());
  Signal news(loop.ready());
  Waking waking(news);
  const Result<> watched = loop.watch(asked->done.fd(), EPOLLIN, waking);
  if (!watched) co_return fail(watched.error());
  Timer late(loop, [&news] { news.raise(); });
  late.arm(deadline);
  const auto answered = [&asked] { return asked->answered.load(std::memory_order_acquire); };
  while (!answered() && loop.now() < deadline) co_await news;
  loop.unwatch(asked->done.fd());
  if (!answered())
    co_return fail(Errc::timed_out, "the host's name could not be looked up in time");
  co_return *asked->answer;
}

}  // namespace membrain
