// A peer that asks for what is not its own.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "protocol/calls.h"
#include "protocol/messages.h"
#include "tests/sim/cluster.h"
#include "tests/sim/ledger.h"

namespace membrain::sim {

/// S5: shows proofs that were altered, or another session's, for blocks of which it knows
/// everything; guesses keys of slots under a proof that is good; and says that it is a client or a
/// node without knowing the secret. Whatever is granted is a violation.
class Rogue final : private Receiver {
 public:
  Rogue(Cluster& cluster, Ledger& ledger);
  ~Rogue();
  Rogue(const Rogue&) = delete;
  Rogue& operator=(const Rogue&) = delete;

  /// Tries one of these, if there is anybody to try it on.
  void try_something();

 private:
  enum class Trick : std::uint8_t { altered, anothers_session, made_a_grant, guessed_key };
  /// A proof that some client has.
  [[nodiscard]] std::optional<wire::SessionProof> stolen_proof();
  [[nodiscard]] std::optional<wire::FetchItem> sealed_slot(const NodeLife& node);
  void try_a_node();
  void try_a_server();
  Task<> fetch(Address node, wire::Fetch request, std::string_view trick);
  Task<> call_server(Address server, bool as_client);
  void on_message(PeerId peer, std::span<const std::byte> bytes, Payload payload) override;
  void on_lost(PeerId peer, const Error& why) override;
  [[nodiscard]] std::uint64_t draw(std::uint64_t below) { return cluster_.random().below(below); }

  Cluster& cluster_;
  Ledger& ledger_;
  Loop loop_;
  std::unique_ptr<Fabric> fabric_;
  Calls calls_;
  std::map<OpId, std::string_view> tricks_;  ///< by the fetch that it was
};

}  // namespace membrain::sim
