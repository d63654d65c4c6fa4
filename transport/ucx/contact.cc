#include "transport/ucx/contact.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
#include <utility>

namespace membrain {

namespace {

/// The process may have so many; the lowest that is free is taken first.
rlim_t descriptor_limit() noexcept {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : RLIM_INFINITY;
}

}  // namespace

// --- Contact. ---

Contact::Contact(Contacts& contacts, std::uint64_t id, Descriptor socket, Handshake handshake,
                 TimePoint deadline)
    : contacts_(contacts),
      id_(id),
      socket_(std::move(socket)),
      handshake_(std::move(handshake)),
      deadline_(deadline) {}

Contact::~Contact() {
  if (watched_ != 0) contacts_.loop_.unwatch(socket_.fd());
}

void Contact::start() {
  if (handshake_.role() == Handshake::Role::caller) {
    connecting_ = true;
    handshake_.begin(output_);
    watch(EPOLLOUT);
  } else {
    watch(EPOLLIN);
  }
}

void Contact::watch(std::uint32_t events) {
  if (ended_ || events == watched_) return;
  if (const Result<> watched = contacts_.loop_.watch(socket_.fd(), events, *this); !watched) {
    return end(watched.error());
  }
  watched_ = events;
}

void Contact::on_ready(std::uint32_t epoll_events) {
  if (connecting_) {
    if (const int error = take_error(socket_); error != 0) {
      return end(Error{Errc::unavailable, error, "connect"});
    }
    connecting_ = false;
  }
  if ((epoll_events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) read();
  if (!ended_) write();
}

void Contact::read() {
  // One frame at most per turn, and never more than the peer has been asked for.
  std::array<std::byte, Handshake::kMaxFrameBytes> buffer;
  const ssize_t got = ::recv(socket_.fd(), buffer.data(), buffer.size(), 0);
  if (got < 0) {
    if (errno == EAGAIN || errno == EINTR) return;
    return end(
        Error{handshake_.stage() == Handshake::Stage::agreed ? Errc::peer_lost : Errc::unavailable,
              errno, "recv"});
  }
  if (got == 0) {
    const bool agreed = handshake_.stage() == Handshake::Stage::agreed;
    return end(Error{agreed ? Errc::peer_lost : Errc::unavailable, 0,
                     agreed ? "the other end closed" : "the other end hung up on first contact"});
  }
  const Result<> taken =
      handshake_.take(std::span(buffer).first(static_cast<std::size_t>(got)), output_);
  if (!taken) {
    write();  // perhaps a refusal
    if (ended_) return;
    const bool caller = handshake_.role() == Handshake::Role::caller;
    Error why = taken.error();
    if (caller && why.code == Errc::corrupt) why.code = Errc::unavailable;  // no Membrain there
    return end(why);
  }
  advance();
}

/// Tells the owner of each stage once.
void Contact::advance() {
  const Handshake::Stage stage = handshake_.stage();
  if (stage == told_) return;
  const bool was_heard = told_ == Handshake::Stage::heard;
  told_ = stage;
  if (stage == Handshake::Stage::heard) {
    deadline_ = contacts_.loop_.now() + Contacts::kProvenPatience;
    contacts_.set_alarm();
  }
  bool welcome = true;
  const bool answerer = handshake_.role() == Handshake::Role::answerer;
  if (stage == Handshake::Stage::heard ||
      (stage == Handshake::Stage::agreed && answerer && !was_heard)) {
    welcome = contacts_.owner_.on_heard(*this);
  }
  if (welcome && stage == Handshake::Stage::agreed) {
    watch_for_dead_peer(socket_);
    std::erase(contacts_.half_open_, id_);
    contacts_.set_alarm();
    welcome = contacts_.owner_.on_agreed(*this);
  }
  if (!welcome) end(Error{Errc::unavailable, 0, "first contact was turned down here"});
}

void Contact::write() {
  while (!ended_ && !output_.empty()) {
    const ssize_t sent = ::send(socket_.fd(), output_.data(), output_.size(), MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) break;
      return end(Error{Errc::unavailable, errno, "send"});
    }
    output_.erase(output_.begin(), output_.begin() + sent);
  }
  watch(output_.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

void Contact::end(const Error& why) {
  if (ended_) return;
  ended_ = true;
  contacts_.retire(id_);
  contacts_.owner_.on_ended(*this, why);
}

// --- Contacts. ---

Contacts::Contacts(Loop& loop, std::string secret, std::function<Card()> make_card, Owner& owner)
    : loop_(loop),
      secret_(std::move(secret)),
      make_card_(std::move(make_card)),
      owner_(owner),
      alarm_(loop, [this] { expire(); }) {}

Contacts::~Contacts() {
  if (listener_) loop_.unwatch(listener_.fd());
}

Result<Address> Contacts::listen(const Address& address) {
  if (listener_) return fail(Errc::invalid_argument, "a fabric listens once");
  const Result<SocketAddress> resolved = resolve(address);
  if (!resolved) return fail(resolved.error());
  Result<Descriptor> socket = open_listener(*resolved);
  if (!socket) return fail(socket.error());
  if (const Result<> watched = loop_.watch(socket->fd(), EPOLLIN, *this); !watched) {
    return fail(watched.error());
  }
  listener_ = std::move(*socket);
  reserve_ = Descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  return with_port(address, port_of(listener_));
}

Result<std::uint64_t> Contacts::call(const SocketAddress& address, TimePoint deadline) {
  Result<Descriptor> socket = start_connect(address);
  if (!socket) return fail(socket.error());
  if (!make_room()) {
    return fail(Errc::out_of_capacity, "too many first contacts are under way: try again later");
  }
  Handshake handshake(Handshake::Role::caller, secret_, make_card_());
  Contact& contact = add(std::move(*socket), std::move(handshake), deadline);
  if (contact.ended_) return fail(Errc::out_of_capacity, "the socket cannot be watched");
  return contact.id();
}

/// New callers.
void Contacts::on_ready(std::uint32_t) {
  constexpr int kAcceptsPerTurn = 64;
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    Descriptor socket(::accept4(listener_.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) {
      if (errno == EMFILE || errno == ENFILE) turn_away();
      return;
    }
    if (static_cast<rlim_t>(socket.fd() + kSpareDescriptors) > descriptor_limit()) continue;
    const int on = 1;
    ::setsockopt(socket.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    answer(std::move(socket));
  }
}

/// Out of descriptors: the one kept in reserve takes the caller off the queue, and ends it. Else
/// the listening socket would stay readable and keep the loop from sleeping.
void Contacts::turn_away() {
  reserve_ = Descriptor();
  Descriptor(::accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC));
  reserve_ = Descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

void Contacts::answer(Descriptor socket) {
  if (!make_room()) return;
  Handshake handshake(Handshake::Role::answerer, secret_, make_card_());
  add(std::move(socket), std::move(handshake), loop_.now() + kPatience);
}

Contact& Contacts::add(Descriptor socket, Handshake handshake, TimePoint deadline) {
  const std::uint64_t id = next_id_++;
  auto made =
      std::make_unique<Contact>(*this, id, std::move(socket), std::move(handshake), deadline);
  Contact& contact = *made;
  contacts_.emplace(id, std::move(made));
  half_open_.push_back(id);
  contact.start();
  set_alarm();
  return contact;
}

/// For one more. Only callers that have proved nothing give way: else strangers could end our own
/// calls, and honest callers that open their endpoint.
bool Contacts::make_room() {
  if (half_open_.size() < kMaxHalfOpen) return true;
  const auto oldest = std::ranges::find_if(half_open_, [this](std::uint64_t id) {
    const Handshake& handshake = contacts_.at(id)->handshake();
    return handshake.role() == Handshake::Role::answerer &&
           handshake.stage() < Handshake::Stage::heard;
  });
  if (oldest == half_open_.end()) return false;
  contacts_.at(*oldest)->end(Error{Errc::unavailable, 0, "too many half-open first contacts"});
  return true;
}

void Contacts::drop(std::uint64_t id) noexcept {
  const auto found = contacts_.find(id);
  if (found == contacts_.end()) return;
  found->second->ended_ = true;
  retire(id);
}

void Contacts::retire(std::uint64_t id) noexcept {
  const auto found = contacts_.find(id);
  if (found == contacts_.end()) return;
  Contact& contact = *found->second;
  if (contact.watched_ != 0) loop_.unwatch(contact.socket_.fd());
  contact.watched_ = 0;
  contact.socket_ = Descriptor();
  ended_.push_back(std::move(found->second));  // it may be the one that is running
  contacts_.erase(found);
  std::erase(half_open_, id);
}

void Contacts::expire() {
  const std::vector<std::uint64_t> open = half_open_;
  for (const std::uint64_t id : open) {
    const auto found = contacts_.find(id);
    if (found == contacts_.end() || found->second->deadline_ > loop_.now()) continue;
    found->second->end(Error{Errc::timed_out, 0, "first contact"});
  }
  set_alarm();
}

void Contacts::set_alarm() {
  TimePoint next = TimePoint::max();
  for (const std::uint64_t id : half_open_) {
    next = std::min(next, contacts_.at(id)->deadline_);
  }
  if (next == TimePoint::max()) return alarm_.cancel();
  alarm_.arm(next);
}

}  // namespace membrain
