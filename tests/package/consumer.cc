// What a user writes first: hashes of a prompt's blocks, and a client. Here no server answers it.
#include <membrain/client.h>
#include <membrain/hash_chain.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <vector>

int main() {
  const membrain::HashChain chain(membrain::HashAlgorithm::sha256, 16, "seed");
  const std::vector<std::uint32_t> tokens(40, 7);
  if (chain.hash(tokens).size() != 2) return 1;  // two full blocks, and a tail without a hash

  membrain::ClientConfig config;
  config.server = "127.0.0.1:1";  // a port where nobody listens
  config.connect_timeout = std::chrono::milliseconds(500);
  const auto client = membrain::Client::open(config);
  if (client || client.error().code != membrain::Errc::unavailable) return 2;
  std::puts("linked, and the missing server was reported");
  return 0;
}
