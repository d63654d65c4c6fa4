// A server and a node of this host with an arena in a file of its own, and clients that may map it,
// over UCX and over the node's door.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "membrain/client.h"
#include "tools/running_node.h"
#include "tools/running_server.h"
#include "tools/signals.h"

namespace membrain {

/// Block `number` of a test: its length and its name. Bytes of any length and seed are `content`.
inline std::size_t size_of(unsigned number) {
  constexpr std::size_t kSizes[] = {16'384, 4096, 65'536, 300'000, 1'048'576, 300};
  return kSizes[number % std::size(kSizes)];
}

inline BlockHash hash_of(unsigned number) {
  return BlockHash::from(std::as_bytes(std::span(&number, 1))).value();
}

inline std::vector<std::byte> content(std::size_t size, unsigned seed) {
  std::vector<std::byte> bytes(size);
  std::uint32_t state = seed * 2654435761U + 1;
  for (std::byte& one : bytes) {
    state = state * 1664525 + 1013904223;
    one = static_cast<std::byte>(state >> 24);
  }
  return bytes;
}

/// The house; clients are in the mode of the parameter.
class MappedHouse : public testing::TestWithParam<ClientConfig::Threads> {
 protected:
  static constexpr const char* kSecret = "mapped";

  MappedHouse() {
    ServerOptions server;
    server.listen = "127.0.0.1:0";
    server.no_admin = true;
    server.secret = kSecret;
    server.temporary = true;
    server_ = std::move(*RunningServer::start(server, context_));
    start_node("first");
  }
  void start_node(const std::string& name) {
    NodeOptions node;
    node.server = server_->address();
    node.secret = kSecret;
    node.name = "mapped-test-" + name;
    node.capacity_bytes = 64 << 20;
    node.temporary = true;
    node_ = std::move(*RunningNode::start(node, context_));
    ASSERT_TRUE(node_->wait_connected(SteadyClock().now() + std::chrono::seconds(20), signals_));
  }
  std::unique_ptr<Client> client(bool mapped = true, std::uint32_t copy_threads = 1) {
    ClientConfig config;
    config.server = server_->address();
    config.secret = kSecret;
    config.threads = GetParam();
    config.mapped = mapped;
    config.copy_threads = copy_threads;
    return std::move(Client::open(config).value());
  }
  static OpenedNamespace open(Client& client) {
    Namespace space;
    space.model = "mapped";
    return client.open_namespace(space).value();
  }

  std::shared_ptr<UcxContext> context_ = UcxContext::create().value();
  Signals signals_;
  std::unique_ptr<RunningServer> server_;
  std::unique_ptr<RunningNode> node_;
};

}  // namespace membrain
