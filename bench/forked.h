// A process of a benchmark's own, forked before anything of UCX has begun: UCX does not survive a
// fork. The benchmark itself only sends orders and reads the clock.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <type_traits>

namespace membrain {

/// One end of the wire between a benchmark and one of its processes. Messages are whole structs.
///
/// Ownership  Owns the descriptor.
/// Errors     False when the other end is gone.
class OrderWire {
 public:
  explicit OrderWire(int fd) noexcept : fd_(fd) {}
  ~OrderWire();
  OrderWire(const OrderWire&) = delete;
  OrderWire& operator=(const OrderWire&) = delete;

  template <class Message>
  [[nodiscard]] bool send(const Message& message) noexcept {
    static_assert(std::is_trivially_copyable_v<Message>);
    return send_bytes(&message, sizeof message);
  }
  /// Waits for one.
  template <class Message>
  [[nodiscard]] bool receive(Message& message) noexcept {
    static_assert(std::is_trivially_copyable_v<Message>);
    return receive_bytes(&message, sizeof message);
  }
  void close() noexcept;

 private:
  bool send_bytes(const void* bytes, std::size_t size) noexcept;
  bool receive_bytes(void* bytes, std::size_t size) noexcept;

  int fd_;
};

/// A child that runs `body` and ends with what it returns.
///
/// Ownership  Destroying it closes the wire, at which the body must end, and waits for the child;
///            one that does not end within seconds is killed.
/// Threads    One; the parent has no other when it forks.
class Forked {
 public:
  using Body = std::function<int(OrderWire& orders)>;
  explicit Forked(const Body& body);
  ~Forked();
  Forked(const Forked&) = delete;
  Forked& operator=(const Forked&) = delete;

  [[nodiscard]] OrderWire& wire() noexcept { return *wire_; }

 private:
  pid_t pid_ = -1;
  std::unique_ptr<OrderWire> wire_;
};

}  // namespace membrain
