// What a server's admin page answers, as torture asks for it: the input, then the end of it. Of the
// body of a good answer, and of the input itself, the shards that the server leads are read.
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <string>
#include <string_view>
#include <thread>

#include "tests/fuzz/target.h"
#include "tools/http_get.h"
#include "tools/leader_status.h"
#include "transport/ucx/socket.h"

namespace membrain::fuzz {
namespace {

constexpr std::chrono::seconds kPatience(10);

/// Answers every call with `answer`, which changes only between calls.
class Page {
 public:
  Page() : listener_(open_listener(resolve("127.0.0.1:0").value()).value()) {
    std::thread([this] { serve(); }).detach();  // for as long as the process lives
  }
  [[nodiscard]] Address address() const { return with_port("127.0.0.1:0", port_of(listener_)); }

  std::string answer;

 private:
  [[noreturn]] void serve() const {
    for (;;) {
      const Descriptor caller(::accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!caller) continue;
      std::array<char, 256> request;  // in one piece: it is short, and from this host
      check(::recv(caller.fd(), request.data(), request.size(), 0) > 0, "nothing is asked");
      const ssize_t sent = ::send(caller.fd(), answer.data(), answer.size(), MSG_NOSIGNAL);
      check(sent == static_cast<ssize_t>(answer.size()), "an answer stays on its way");
    }
  }

  Descriptor listener_;
};

void read_shards(std::string_view text) {
  for (const auto& [shard, status] : led_shards(text)) {
    check(status.epoch > 0, "a shard that nobody leads");
    for (const auto& [name, value] : status.counters) {
      check(status.counter(name) == value, "a counter that cannot be found");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Page& page = *new Page;
  page.answer = text_of(bytes_of(data, size));
  const std::string_view said = page.answer;
  if (const auto body = http_get(page.address(), "/status", kPatience)) {
    const std::string_view line = said.substr(0, said.find("\r\n"));
    check(line.starts_with("HTTP/1.") && line.find(" 200 ") != std::string_view::npos,
          "the body of an answer that is not good");
    check(said.ends_with("\r\n\r\n" + *body), "the body of another answer");
    read_shards(*body);
  }
  read_shards(said);
  return 0;
}

}  // namespace membrain::fuzz
