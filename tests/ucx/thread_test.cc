// Two loops, each on a thread of its own, as node and client run them.
#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <thread>

#include "tests/ucx/party.h"

namespace membrain::ucx_test {
namespace {

constexpr std::size_t kBlock = 1u << 20;

/// Answers every frame with a block, on its own thread.
class BlockThread final : public Receiver {
 public:
  explicit BlockThread(std::shared_ptr<UcxContext> context)
      : fabric_(make_ucx_fabric(std::move(context), loop_, {std::string(kSecret), "b"}).value()) {
    fabric_->set_receiver(*this);
    address = fabric_->listen("127.0.0.1:0").value();
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~BlockThread() {
    loop_.stop();
    thread_.join();
    fabric_.reset();
  }
  void on_message(PeerId peer, std::span<const std::byte> frame, Payload) override {
    sends_.remove_if([](const Completion& sent) { return sent.done(); });
    const Segment block = all_of(block_);
    fabric_->send(peer, frame, {&block, 1}, sends_.emplace_back(loop_.ready()));
  }
  void on_lost(PeerId, const Error&) override {}

  Address address;

 private:
  SteadyClock clock_;
  Loop loop_{clock_};
  std::vector<std::byte> block_ = pattern(kBlock, 5);
  std::unique_ptr<Fabric> fabric_;
  std::list<Completion> sends_;
  std::thread thread_;
};

class UcxThreads : public testing::TestWithParam<Lane> {};

TEST_P(UcxThreads, MoveBlocksBetweenTheirLoops) {
  const std::vector<std::byte> expected = pattern(kBlock, 5);
  BlockThread server(make_context(GetParam(), GetParam().peer_devices));
  Party client(make_context(GetParam(), GetParam().devices));
  const PeerId peer = connect(client, server.address, {}).value();
  std::vector<std::byte> into(kBlock);
  const Segment sink = all_of(into);
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(client.fabric().send(peer, as_bytes("next")));
    ASSERT_TRUE(drive({&client}, [&] { return client.messages.size() == 1; }));
    std::fill(into.begin(), into.end(), std::byte{0});
    Completion received(client.loop().ready());
    client.fabric().receive(std::move(client.messages.front().payload), {&sink, 1}, received);
    client.messages.clear();
    ASSERT_TRUE(drive({&client}, [&] { return received.done(); }));
    ASSERT_TRUE(into == expected);
  }
  ASSERT_TRUE(close(client, peer, {}));
}

INSTANTIATE_TEST_SUITE_P(Lanes, UcxThreads, testing::ValuesIn(every_lane()),
                         [](const auto& lane) { return lane.param.name; });

}  // namespace
}  // namespace membrain::ucx_test
