// A client that cannot begin after all leaves nothing behind.
#include <gtest/gtest.h>

#include <utility>

#include "cache/node/arena.h"
#include "tests/client/fake_cluster.h"

namespace membrain::client_test {
namespace {

/// Hands out an arena.
class Opener final : public ArenaOpener {
 public:
  explicit Opener(const Arena& arena) noexcept : arena_(arena) {}
  Task<Result<std::shared_ptr<const MappedArena>>> open(wire::NodeEntry node, TimePoint) override {
    co_return MappedArena::over(arena_.mapping(), nullptr, node.node, node.incarnation);
  }

 private:
  const Arena& arena_;
};

/// Takes until it is told to stop.
class SlowPinner final : public ArenaPinner {
 public:
  [[nodiscard]] bool needs_writable() const noexcept override { return false; }
  void pin(std::shared_ptr<const MappedArena>, std::shared_ptr<const WritableArena>,
           std::function<void(Pinned)> done) override {
    done_ = std::move(done);
  }
  void stop() noexcept override {
    if (done_) std::exchange(done_, nullptr)(nullptr);
  }

 private:
  std::function<void(Pinned)> done_;
};

class Start : public ClientTest {
 protected:
  Start() {
    arena_->begin_life();
    node1_.host = "here";
    node1_.door = "a door";
    shard_.nodes = {&node1_};
  }
  static constexpr std::uint64_t kHalf = std::uint64_t{1} << 63;
  std::unique_ptr<Arena> arena_ = Arena::anonymous(1 << 20, NodeId{1}).value();
};

TEST_F(Start, ThatFailsWhileAnArenaIsPageLocked) {
  shard_.shards = {1, {{ShardId{0}, 0, "server:9201"}, {ShardId{1}, kHalf, ""}}};
  core_ = std::make_unique<ClientCore>(*control_, *data_, config_, "here",
                                       std::make_unique<Opener>(*arena_),
                                       std::vector<std::unique_ptr<DeviceLane>>{}, nullptr);
  core_->set_pinner(std::make_unique<SlowPinner>());
  std::optional<Result<>> started;
  control_loop_.spawn(put_into(core_->start(), started));
  step_until([&] { return core_->arenas() != nullptr; });
  shard_.deny = true;
  shard_.close(*shard_.peers.begin());
  step_until([&] { return started.has_value(); });
  EXPECT_FALSE(started->has_value()) << "nobody leads the second shard";
  core_.reset();
}

}  // namespace
}  // namespace membrain::client_test
