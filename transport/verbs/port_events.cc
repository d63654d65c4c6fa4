#include "transport/verbs/port_events.h"

#if defined(MEMBRAIN_HAS_VERBS)

#include <fcntl.h>
#include <infiniband/verbs.h>
#include <sys/epoll.h>

#include <list>
#include <utility>

#include "base/log.h"

namespace membrain::verbs {

namespace {

/// One open device.
class Watched final : private FdHandler {
 public:
  Watched(Loop& loop, ibv_context* device, const PortEvents::Told& told) noexcept
      : loop_(loop), device_(device), told_(told) {}
  ~Watched() {
    if (watching_) loop_.unwatch(device_->async_fd);
    ibv_close_device(device_);
  }
  Watched(const Watched&) = delete;
  Watched& operator=(const Watched&) = delete;

  bool start() {
    const int flags = ::fcntl(device_->async_fd, F_GETFL);
    if (flags < 0 || ::fcntl(device_->async_fd, F_SETFL, flags | O_NONBLOCK) != 0) return false;
    watching_ = loop_.watch(device_->async_fd, EPOLLIN, *this).has_value();
    return watching_;
  }

 private:
  void on_ready(std::uint32_t) override {
    ibv_async_event event{};
    while (watching_ && ibv_get_async_event(device_, &event) == 0) {
      const ibv_event_type type = event.event_type;
      const int port = event.element.port_num;
      ibv_ack_async_event(&event);
      take(type, port);
    }
  }
  void take(ibv_event_type type, int port) {
    const char* const name = ibv_get_device_name(device_->device);
    if (type == IBV_EVENT_PORT_ACTIVE || type == IBV_EVENT_PORT_ERR) {
      const bool up = type == IBV_EVENT_PORT_ACTIVE;
      log(LogLevel::warn, "RDMA port {}:{} is {}", name, port, up ? "active again" : "down");
      told_({name, port, up});
    } else if (type == IBV_EVENT_DEVICE_FATAL) {
      log(LogLevel::error, "RDMA device {} has failed", name);
      loop_.unwatch(device_->async_fd);
      watching_ = false;
      told_({name, 0, false});
    }
  }

  Loop& loop_;
  ibv_context* device_;
  const PortEvents::Told& told_;
  bool watching_ = false;
};

class Events final : public PortEvents {
 public:
  explicit Events(Told told) : told_(std::move(told)) {}

  void open(Loop& loop) {
    int count = 0;
    ibv_device** const devices = ibv_get_device_list(&count);
    for (int i = 0; devices != nullptr && i < count; ++i) {
      ibv_context* const device = ibv_open_device(devices[i]);
      if (device == nullptr) continue;
      watched_.emplace_back(loop, device, told_);
      if (!watched_.back().start()) watched_.pop_back();
    }
    if (devices != nullptr) ibv_free_device_list(devices);
  }
  [[nodiscard]] std::size_t device_count() const noexcept override { return watched_.size(); }

 private:
  Told told_;
  std::list<Watched> watched_;
};

}  // namespace

std::unique_ptr<PortEvents> PortEvents::watch(Loop& loop, Told told) {
  auto events = std::make_unique<Events>(std::move(told));
  events->open(loop);
  if (events->device_count() == 0) return nullptr;
  return events;
}

}  // namespace membrain::verbs

#else

namespace membrain::verbs {

std::unique_ptr<PortEvents> PortEvents::watch(Loop&, Told) {
  return nullptr;
}

}  // namespace membrain::verbs

#endif
