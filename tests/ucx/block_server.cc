#include "tests/ucx/block_server.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <list>
#include <utility>

#include "tests/ucx/party.h"

namespace membrain::ucx_test {

namespace {

class BlockServer final : public Receiver {
 public:
  explicit BlockServer(Fabric& fabric) : fabric_(fabric) {}
  void on_message(PeerId peer, std::span<const std::byte> frame, Payload payload) override {
    if (payload.size() != 0) return take(std::move(payload));
    std::size_t number = 0;
    std::memcpy(&number, frame.data(), std::min(sizeof number, frame.size()));
    if (number == kFlood) return flood(peer);
    sends_.remove_if([](const Sending& sending) { return sending.sent.done(); });
    Sending& sending =
        sends_.emplace_back(fabric_.loop().ready(), pattern(block_bytes(number), number));
    const Segment block = all_of(sending.block);
    fabric_.send(peer, frame, {&block, 1}, sending.sent);
  }
  void on_lost(PeerId, const Error&) override {}

 private:
  struct Sending {
    Sending(ReadyQueue& ready, std::vector<std::byte> bytes)
        : block(std::move(bytes)), sent(ready) {}
    std::vector<std::byte> block;
    Completion sent;
  };
  void flood(PeerId peer) {
    const std::vector<std::byte> frame = pattern(4000, 1);
    for (int i = 0; i < 8000; ++i) static_cast<void>(fabric_.send(peer, frame));
  }
  void take(Payload payload) {
    sends_.remove_if([](const Sending& sending) { return sending.sent.done(); });
    Sending& taking =
        sends_.emplace_back(fabric_.loop().ready(), std::vector<std::byte>(payload.size()));
    const Segment block = all_of(taking.block);
    fabric_.receive(std::move(payload), {&block, 1}, taking.sent);
  }
  Fabric& fabric_;
  std::list<Sending> sends_;  ///< and takings
};

class StandardInput final : public FdHandler {
 public:
  explicit StandardInput(Loop& loop) : loop_(loop) {}
  void on_ready(std::uint32_t) override {
    char byte = 0;
    if (::read(STDIN_FILENO, &byte, 1) <= 0) loop_.stop();
  }

 private:
  Loop& loop_;
};

}  // namespace

std::size_t block_bytes(std::size_t number) {
  return number % 2 == 0 ? 1u << 20 : 2u << 20;
}

int serve_blocks(const Lane& lane, const Address& address) {
  SteadyClock clock;
  Loop loop(clock);
  auto fabric =
      make_ucx_fabric(make_context(lane, lane.peer_devices), loop, {std::string(kSecret), "served"})
          .value();
  BlockServer server(*fabric);
  fabric->set_receiver(server);
  std::printf("%s\n", fabric->listen(address).value().c_str());
  std::fflush(stdout);
  StandardInput input(loop);
  if (!loop.watch(STDIN_FILENO, EPOLLIN, input)) return 1;
  loop.run();
  loop.unwatch(STDIN_FILENO);
  fabric.reset();
  return 0;
}

}  // namespace membrain::ucx_test
