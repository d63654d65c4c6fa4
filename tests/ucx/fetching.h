// What tests of two processes share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "tests/ucx/block_server.h"
#include "tests/ucx/party.h"
#include "tests/ucx/served_process.h"

namespace membrain::ucx_test {

/// A test that fetches blocks from another process over a lane, and checks every byte.
class Fetching : public testing::Test {
 protected:
  explicit Fetching(const Lane& lane)
      : lane_(lane),
        server_(ServedProcess::start(lane.name)),
        party_(make_context(lane, lane.devices)) {}
  void SetUp() override {
    const Result<PeerId> peer = connect(party_, server_->address(), {});
    ASSERT_TRUE(peer.has_value()) << to_string(peer.error().code) << " " << peer.error().context;
    peer_ = *peer;
    EXPECT_EQ(party_.fabric().lane(peer_), lane_.kind);
  }
  [[nodiscard]] bool ask(std::size_t number) {
    return party_.fabric().send(peer_, std::as_bytes(std::span(&number, 1))).has_value();
  }
  [[nodiscard]] bool lost(PeerId peer) const { return std::ranges::count(party_.lost, peer) != 0; }
  /// Begins to receive whatever has been offered.
  void take_offers() {
    for (Message& message : party_.messages) {
      std::size_t number = 0;
      std::memcpy(&number, message.frame.data(), sizeof number);
      Landing& landing = landings_.emplace_back(party_.loop().ready(), number);
      const Segment sink = all_of(landing.block);
      party_.fabric().receive(std::move(message.payload), {&sink, 1}, landing.received);
    }
    party_.messages.clear();
  }
  [[nodiscard]] bool all_landed() const {
    return std::all_of(landings_.begin(), landings_.end(),
                       [](const Landing& landing) { return landing.received.done(); });
  }
  /// Fetches and checks. Ends early, with false, if the peer is lost.
  [[nodiscard]] bool fetch_unless_lost(std::size_t count) {
    std::size_t asked = 0;
    std::size_t done = 0;
    const bool over = drive({&party_}, [&] {
      take_offers();
      while (!landings_.empty() && landings_.front().received.done()) {
        const bool fetched = landings_.front().received.outcome().has_value();
        const std::size_t number = landings_.front().number;
        EXPECT_TRUE(!fetched || landings_.front().block == pattern(block_bytes(number), number));
        landings_.pop_front();
        done += fetched ? 1 : 0;
      }
      while (asked < count && asked < done + 4 && ask(asked)) ++asked;
      return done == count || (lost(peer_) && all_landed());
    });
    EXPECT_TRUE(over);
    return done == count;
  }
  void fetch(std::size_t count) { EXPECT_TRUE(fetch_unless_lost(count)); }
  /// Asks for blocks, and goes on until some are on their way.
  void begin_to_fetch(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) ASSERT_TRUE(ask(i));
    ASSERT_TRUE(drive({&party_}, [&] { return !party_.messages.empty(); }));
    take_offers();
  }

  struct Landing {
    Landing(ReadyQueue& ready, std::size_t of)
        : number(of), block(block_bytes(of)), received(ready) {}
    std::size_t number;
    std::vector<std::byte> block;
    Completion received;
  };
  std::list<Landing> landings_;
  Lane lane_;
  std::unique_ptr<ServedProcess> server_;
  Party party_;
  PeerId peer_;
};

}  // namespace membrain::ucx_test
