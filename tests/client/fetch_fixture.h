// What the tests of fetch share: a fetch that is left running while its nodes misbehave.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "tests/client/fake_cluster.h"

namespace membrain::client_test {

class FetchTest : public ClientTest {
 protected:
  explicit FetchTest(SimFaults faults = {}, std::uint64_t seed = 1) : ClientTest(faults, seed) {}

  /// Starts a fetch and leaves it running; `result_` gets its end.
  void launch(const Match& match, std::vector<FetchItem> items, TransferOptions options = {}) {
    token_ = std::make_shared<CancelToken>();
    data_loop_.spawn(put_into(
        core_->fetch(match.state(), std::move(items), std::move(options), token_), result_));
  }
  [[nodiscard]] PeerId client_at(FakeNode& node) const { return node.last_peer; }

  std::shared_ptr<CancelToken> token_;
  std::optional<Result<TransferReport>> result_;
};

inline TransferOptions within(milliseconds timeout) {
  TransferOptions options;
  options.timeout = timeout;
  return options;
}

}  // namespace membrain::client_test
