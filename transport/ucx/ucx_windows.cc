#include "transport/ucx/ucx_windows.h"

#include <ucp/api/ucp.h>

#include <cstring>
#include <iterator>
#include <list>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "transport/ucx/region.h"

namespace membrain {

namespace {

/// How long the end waits for connections that are being made: destroying UCX's worker under one
/// ends the process.
constexpr Duration kEndPatience = std::chrono::seconds(5);
constexpr std::uint32_t kMagic = 0x57424d31;  // "1MBW"

/// What `open` returns begins with this; the worker's address and the key follow.
struct Head {
  std::uint32_t magic = kMagic;
  std::uint32_t address_bytes = 0;
  std::uint64_t base = 0;
  std::uint64_t size = 0;
};

class UcxRemoteWindow;

/// One read: as many gets as it has segments.
struct Read {
  UcxRemoteWindow* window = nullptr;
  std::list<Read>::iterator self;  ///< in the window's lists
  Completion* done = nullptr;
  std::uint32_t left = 0;  ///< gets under way
  Result<> outcome;
  std::uint64_t offset = 0;  ///< of one that waits for the connection
  std::vector<Segment> into;
};

/// An endpoint. UCX 1.13 ends the process when one is closed by force while it is being made: one
/// that nobody wants any more lives on until it has been made, or has failed.
struct Link {
  ucp_ep_h endpoint = nullptr;
  ucp_rkey_h key = nullptr;
  UcxRemoteWindow* window = nullptr;  ///< null: nobody wants it
  enum class Making : std::uint8_t { under_way, done, failed } making = Making::under_way;
  bool made = false;  ///< or failed, and the window has been told
};

class UcxRemoteWindow final : public RemoteWindow {
 public:
  UcxRemoteWindow(Loop& loop, Link& link, const Head& head) noexcept
      : link_(&link), head_(head), quiet_(loop.ready()) {
    link.window = this;
  }
  ~UcxRemoteWindow() override {
    check(closed_, "a RemoteWindow was destroyed before it was closed");
  }
  UcxRemoteWindow(const UcxRemoteWindow&) = delete;
  UcxRemoteWindow& operator=(const UcxRemoteWindow&) = delete;

  [[nodiscard]] std::uint64_t size_bytes() const noexcept override { return head_.size; }
  [[nodiscard]] bool usable() const noexcept override { return usable_; }

  void read(std::uint64_t offset, std::span<const Segment> into, Completion& done) override {
    std::uint64_t bytes = 0;
    for (const Segment& segment : into) bytes += segment.size;
    if (offset > head_.size || bytes > head_.size - offset) {
      return done.finish(fail(Errc::invalid_argument, "a read outside the window"));
    }
    if (!usable_) return done.finish(fail(Errc::peer_lost, "the window is closed"));
    Read& read = take();
    read.window = this;
    read.done = &done;
    read.outcome = {};
    read.offset = offset;
    read.into.assign(into.begin(), into.end());
    if (link_->made) post(read);
  }

  /// The endpoint has been made, or has failed.
  void on_made(bool works) {
    if (!works) usable_ = false;
    for (auto at = reads_.begin(); at != reads_.end();) {
      Read& read = *at++;  // it may end at once
      if (works) {
        post(read);
      } else {
        end(read, fail(Errc::peer_lost, "the window cannot be reached"));
      }
    }
  }
  void on_broken() noexcept { usable_ = false; }

  Task<> close() override {
    usable_ = false;
    if (link_->made) {
      quiet_.expect(static_cast<std::uint32_t>(reads_.size()));
      closed_ = true;
      close_endpoint();
    } else {
      // Nothing of them has been asked for.
      while (!reads_.empty()) end(reads_.front(), fail(Errc::peer_lost, "the window was closed"));
      closed_ = true;
    }
    quiet_.finish({});  // its own count; reads under way and the closing have theirs
    const Result<> quiet = co_await quiet_;
    check(quiet.has_value(), "closing cannot fail");
    link_->window = nullptr;
  }

 private:
  /// A place that is free; they are never freed before the window.
  Read& take() {
    if (free_.empty()) {
      free_.emplace_back();
      free_.back().self = std::prev(free_.end());
    }
    reads_.splice(reads_.end(), free_, free_.begin());
    return reads_.back();
  }

  void post(Read& read) {
    read.left = 1;  // this call itself
    std::uint64_t at = head_.base + read.offset;
    for (const Segment& segment : read.into) {
      if (segment.size == 0) continue;
      get(read, at, segment);
      at += segment.size;
    }
    end_get(read, UCS_OK);
  }

  void get(Read& read, std::uint64_t from, const Segment& into) {
    ucp_request_param_t param{};
    param.op_attr_mask =
        UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_MEMORY_TYPE;
    param.memory_type = UCS_MEMORY_TYPE_HOST;
    param.cb.send = [](void* request, ucs_status_t status, void* user) {
      ucp_request_free(request);
      Read& ended = *static_cast<Read*>(user);
      ended.window->end_get(ended, status);
    };
    param.user_data = &read;
    ++read.left;
    void* const request =
        ucp_get_nbx(link_->endpoint, into.data, into.size, from, link_->key, &param);
    if (UCS_PTR_IS_PTR(request)) return;
    end_get(read, UCS_PTR_IS_ERR(request) ? UCS_PTR_STATUS(request) : UCS_OK);
  }

  void end_get(Read& read, ucs_status_t status) {
    if (status != UCS_OK) {
      usable_ = false;
      if (read.outcome) read.outcome = fail(Errc::peer_lost, "ucp_get_nbx", status);
    }
    if (--read.left == 0) end(read, read.outcome);
  }

  void end(Read& read, const Result<>& outcome) {
    Completion& done = *std::exchange(read.done, nullptr);
    free_.splice(free_.end(), reads_, read.self);
    done.finish(outcome);
    if (closed_) quiet_.finish({});
  }

  void close_endpoint() {
    ucp_request_param_t param{};
    param.op_attr_mask =
        UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
    param.flags = UCP_EP_CLOSE_FLAG_FORCE;
    param.cb.send = [](void* request, ucs_status_t, void* self) {
      ucp_request_free(request);
      static_cast<UcxRemoteWindow*>(self)->quiet_.finish({});
    };
    param.user_data = this;
    void* const request = ucp_ep_close_nbx(std::exchange(link_->endpoint, nullptr), &param);
    if (UCS_PTR_IS_PTR(request)) quiet_.expect();
  }

  Link* link_;
  const Head head_;
  bool usable_ = true;
  bool closed_ = false;
  std::list<Read> reads_;  ///< under way, or waiting for the connection
  std::list<Read> free_;
  Completion quiet_;
};

/// The worker that serves what this process opened, and reads what others did.
class UcxWindows final : public Windows, private Source {
 public:
  explicit UcxWindows(Loop& loop, std::shared_ptr<UcxContext> context) noexcept
      : loop_(loop), context_(std::move(context)) {}
  ~UcxWindows() override {
    if (worker_ == nullptr) return;
    loop_.remove_source(*this);
    const SteadyClock clock;
    const TimePoint until = clock.now() + kEndPatience;
    while (!links_.empty() && clock.now() < until) progress();
    if (!links_.empty()) {
      log(LogLevel::warn, "a window that is still being connected is left behind");
      // UCX still points to the links, and the worker, which stays, to the context: whoever lets go
      // of that last frees it.
      static_cast<void>(new std::list<Link>(std::move(links_)));
      static_cast<void>(new std::shared_ptr<UcxContext>(context_));
      return;
    }
    ucp_worker_destroy(worker_);
    for (const ucp_mem_h opened : opened_) ucp_mem_unmap(context_->handle(), opened);
  }
  UcxWindows(const UcxWindows&) = delete;
  UcxWindows& operator=(const UcxWindows&) = delete;

  Result<> start() {
    ucp_worker_params_t params{};
    params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
    params.thread_mode = UCS_THREAD_MODE_SINGLE;
    ucs_status_t status = ucp_worker_create(context_->handle(), &params, &worker_);
    if (status != UCS_OK) {
      worker_ = nullptr;
      return fail(Errc::unavailable, "ucp_worker_create", status);
    }
    status = ucp_worker_get_efd(worker_, &event_fd_);
    if (status != UCS_OK) return fail(Errc::unavailable, "ucp_worker_get_efd", status);
    ucp_address_t* address = nullptr;
    std::size_t bytes = 0;
    status = ucp_worker_get_address(worker_, &address, &bytes);
    if (status != UCS_OK) return fail(Errc::unavailable, "ucp_worker_get_address", status);
    const auto* const raw = reinterpret_cast<const std::byte*>(address);
    address_.assign(raw, raw + bytes);
    ucp_worker_release_address(worker_, address);
    loop_.add_source(*this);  // not before there is a descriptor: a loop asks for it once
    return {};
  }

  Result<std::vector<std::byte>> open(std::span<std::byte> memory) override {
    const Result<ucp_mem_h> handle = map_memory(*context_, memory);
    if (!handle) return fail(handle.error());
    opened_.push_back(*handle);
    void* key = nullptr;
    std::size_t key_bytes = 0;
    const ucs_status_t status = ucp_rkey_pack(context_->handle(), *handle, &key, &key_bytes);
    if (status != UCS_OK) return fail(Errc::unavailable, "ucp_rkey_pack", status);
    Head head;
    head.address_bytes = static_cast<std::uint32_t>(address_.size());
    head.base = reinterpret_cast<std::uint64_t>(memory.data());
    head.size = memory.size();
    std::vector<std::byte> window(sizeof head);
    std::memcpy(window.data(), &head, sizeof head);
    window.insert(window.end(), address_.begin(), address_.end());
    const auto* const raw = static_cast<const std::byte*>(key);
    window.insert(window.end(), raw, raw + key_bytes);
    ucp_rkey_buffer_release(key);
    if (window.size() > kMaxWindowBytes) {
      return fail(Errc::unavailable, "the window of so many devices is too long to be told");
    }
    return window;
  }

  Result<std::unique_ptr<RemoteWindow>> enter(std::span<const std::byte> window) override {
    Head head;
    const auto corrupt = [] { return fail(Errc::corrupt, "these bytes are no window"); };
    if (window.size() < sizeof head || window.size() > kMaxWindowBytes) return corrupt();
    std::memcpy(&head, window.data(), sizeof head);
    const std::span<const std::byte> rest = window.subspan(sizeof head);
    if (head.magic != kMagic || head.size == 0 || head.address_bytes == 0 ||
        head.address_bytes >= rest.size() || head.base + head.size < head.base) {
      return corrupt();
    }
    Link& link = links_.emplace_back();
    const Result<> connected =
        connect(link, rest.first(head.address_bytes), rest.subspan(head.address_bytes));
    if (!connected) {
      if (link.endpoint == nullptr) links_.pop_back();
      return fail(connected.error());
    }
    return std::unique_ptr<RemoteWindow>(std::make_unique<UcxRemoteWindow>(loop_, link, head));
  }

 private:
  /// After a failure the link may have an endpoint, which nobody wants.
  Result<> connect(Link& link, std::span<const std::byte> address, std::span<const std::byte> key) {
    ucp_ep_params_t params{};
    params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                        UCP_EP_PARAM_FIELD_ERR_HANDLER;
    params.address = reinterpret_cast<const ucp_address_t*>(address.data());
    params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
    params.err_handler.cb = [](void* broken, ucp_ep_h, ucs_status_t) {
      UcxRemoteWindow* const window = static_cast<Link*>(broken)->window;
      if (window != nullptr) window->on_broken();
    };
    params.err_handler.arg = &link;
    ucs_status_t status = ucp_ep_create(worker_, &params, &link.endpoint);
    if (status != UCS_OK) {
      link.endpoint = nullptr;
      return fail(Errc::unavailable, "ucp_ep_create", status);
    }
    // A flush ends when the endpoint has been made.
    ucp_request_param_t param{};
    param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
    param.cb.send = [](void* request, ucs_status_t flushed, void* made) {
      ucp_request_free(request);
      static_cast<Link*>(made)->making =
          flushed == UCS_OK ? Link::Making::done : Link::Making::failed;
    };
    param.user_data = &link;
    void* const request = ucp_ep_flush_nbx(link.endpoint, &param);
    if (!UCS_PTR_IS_PTR(request)) link.made = true;
    if (UCS_PTR_IS_ERR(request)) return fail(Errc::unavailable, "ucp_ep_flush_nbx");
    status = ucp_ep_rkey_unpack(link.endpoint, key.data(), &link.key);
    if (status == UCS_OK) return {};
    link.key = nullptr;
    return fail(Errc::unavailable, "ucp_ep_rkey_unpack", status);
  }
  /// Goes on with what UCX has noted.
  void tell_made() {
    for (Link& link : links_) {
      if (link.made || link.making == Link::Making::under_way) continue;
      link.made = true;
      if (link.window != nullptr) link.window->on_made(link.making == Link::Making::done);
    }
  }

  /// Lets go of what nobody wants and UCX can close.
  void sweep() {
    std::erase_if(links_, [](Link& link) {
      if (link.window != nullptr || !link.made) return false;
      if (link.key != nullptr) ucp_rkey_destroy(link.key);
      if (link.endpoint == nullptr) return true;
      ucp_request_param_t param{};
      param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
      param.flags = UCP_EP_CLOSE_FLAG_FORCE;
      void* const request = ucp_ep_close_nbx(link.endpoint, &param);
      if (UCS_PTR_IS_PTR(request)) ucp_request_free(request);
      return true;
    });
  }

  bool progress() override {
    const bool worked = ucp_worker_progress(worker_) != 0;
    if (!links_.empty()) {
      tell_made();
      sweep();
    }
    return worked;
  }
  [[nodiscard]] int event_fd() const noexcept override { return event_fd_; }
  [[nodiscard]] bool arm() noexcept override { return ucp_worker_arm(worker_) == UCS_OK; }

  Loop& loop_;
  std::shared_ptr<UcxContext> context_;
  ucp_worker_h worker_ = nullptr;
  int event_fd_ = -1;
  std::vector<std::byte> address_;
  std::vector<ucp_mem_h> opened_;
  std::list<Link> links_;  ///< UCX holds pointers to them
};

}  // namespace

Result<std::unique_ptr<Windows>> make_ucx_windows(Loop& loop, UcxContextConfig config) {
  config.use = UcxContextConfig::Use::windows;
  // Unreliable datagrams make first contact; bytes go by reliable connections.
  if (config.transports.empty()) config.transports = "rc,ud:aux";
  const Result<std::shared_ptr<UcxContext>> context = UcxContext::create(config);
  if (!context) return fail(context.error());
  auto windows = std::make_unique<UcxWindows>(loop, *context);
  if (const Result<> started = windows->start(); !started) return fail(started.error());
  return std::unique_ptr<Windows>(std::move(windows));
}

}  // namespace membrain
