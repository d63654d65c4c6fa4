// What the kernel carries over TCP on loopback: bytes through one plain socket, a value a call,
// asked for by portions of which two are under way. Neither side sleeps: a wake-up costs more than
// a value.
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "bench/page_memory.h"
#include "bench/peer_rows.h"

namespace membrain {
namespace {

constexpr std::size_t kPortionBytes = std::size_t{4} << 20;
constexpr std::uint32_t kPortionsUnderWay = 2;
constexpr std::uint32_t kPortions = kBatchBytes / kPortionBytes;       // of an iteration
constexpr std::size_t kRingBytes = kPortionsUnderWay * kPortionBytes;  // where values land
constexpr std::uint32_t kEnd = ~std::uint32_t{0};

bool send_all(int fd, const std::byte* bytes, std::size_t size) {
  while (size > 0) {
    const ssize_t sent = ::send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EAGAIN) continue;
    if (sent <= 0) return false;
    bytes += sent;
    size -= static_cast<std::size_t>(sent);
  }
  return true;
}

bool receive_all(int fd, std::byte* bytes, std::size_t size) {
  while (size > 0) {
    const ssize_t got = ::recv(fd, bytes, size, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) continue;
    if (got <= 0) return false;
    bytes += got;
    size -= static_cast<std::size_t>(got);
  }
  return true;
}

/// Both ends of a TCP connection over loopback.
class Connection {
 public:
  Connection() {
    const int door = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    if (::bind(door, any, size) == 0 && ::listen(door, 1) == 0 &&
        ::getsockname(door, any, &size) == 0) {
      reader = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (::connect(reader, any, size) == 0) writer = ::accept(door, nullptr, nullptr);
    }
    ::close(door);
  }
  ~Connection() {
    ::close(reader);
    ::close(writer);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int reader = -1;
  int writer = -1;
};

/// A place of `memory`, which is a whole number of portions.
std::byte* portion_of(PageMemory& memory, std::uint32_t index) {
  return memory.data() + index * kPortionBytes % memory.size();
}

/// Sends the portion whose index it is asked for, until it is asked for none.
void serve(int fd, std::size_t value_bytes, PageMemory& memory) {
  std::uint32_t index = 0;
  while (receive_all(fd, reinterpret_cast<std::byte*>(&index), sizeof index) && index != kEnd) {
    for (std::size_t at = 0; at < kPortionBytes; at += value_bytes) {
      if (!send_all(fd, portion_of(memory, index) + at, value_bytes)) return;
    }
  }
}

bool receive_portion(int fd, std::size_t value_bytes, std::byte* into) {
  for (std::size_t at = 0; at < kPortionBytes; at += value_bytes) {
    if (!receive_all(fd, into + at, value_bytes)) return false;
  }
  return true;
}

bool ask(int fd, std::uint32_t index) {
  return send_all(fd, reinterpret_cast<const std::byte*>(&index), sizeof index);
}

}  // namespace

void socket_read(benchmark::State& state, std::size_t bytes) {
  const Values values(bytes);
  PageMemory source(Values::kWorkingSetBytes);
  values.fill(0, source);
  PageMemory into(kRingBytes);
  const Connection connection;
  if (connection.writer < 0) return state.SkipWithError("no connection over loopback");
  std::thread server([&] { serve(connection.writer, bytes, source); });
  std::uint32_t asked = 0;
  std::uint32_t taken = 0;
  bool fine = true;
  for (auto _ : state) {
    for (std::uint32_t i = 0; i < kPortions && fine; ++i, ++taken) {
      while (asked < taken + kPortionsUnderWay) fine = ask(connection.reader, asked++) && fine;
      fine = fine && receive_portion(connection.reader, bytes, portion_of(into, taken));
    }
  }
  for (; taken < asked && fine; ++taken) {
    fine = receive_portion(connection.reader, bytes, portion_of(into, taken));
  }
  fine = ask(connection.reader, kEnd) && fine;
  server.join();
  const std::uint64_t last = values.number((taken - 1) * (kPortionBytes / bytes));
  if (!fine || !is_value(last, std::span(portion_of(into, taken - 1), bytes))) {
    return state.SkipWithError("other bytes came");
  }
  count_bytes(state);
}

}  // namespace membrain
