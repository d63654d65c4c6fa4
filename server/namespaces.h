// Namespaces as the shard knows them: who opened them, and in which era they are.
#pragma once

#include <cstddef>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/mac.h"
#include "membrain/result.h"
#include "server/records.h"
#include "server/replica_rule.h"
#include "server/term.h"

namespace membrain {

struct Space {
  NamespaceId id;
  Era era;
  bool opened = false;  ///< false: only nodes have spoken of it; digest and tenant are unknown
  Digest digest{};
  Digest family{};
  std::string tenant;
  std::string label;  ///< for people
  ReplicaRule rule;
  bool ruled = false;  ///< by a client; else the rule is the server's
};

/// Threads and time: none. Bound: kMaxNamespaces.
class Namespaces {
 public:
  static constexpr std::size_t kMaxNamespaces = 65536;

  explicit Namespaces(Eras eras, ReplicaRule standard = {})
      : eras_(std::move(eras)), standard_(standard) {}

  struct Opened {
    SpaceIndex space = kNoSpace;
    bool other_seed = false;  ///< the same family is here under another digest
  };
  /// `denied` when the id belongs to another digest or another tenant.
  Result<Opened> open(const Digest& digest, const Digest& family, const std::string& tenant,
                      const std::string& label);

  /// What a client asks for (0 and `standard`: nothing). Of several the most: one of them that
  /// comes again changes nothing. True if the rule is another one now.
  bool ask(SpaceIndex space, std::uint8_t replicas, wire::ZoneRule zones);

  [[nodiscard]] SpaceIndex find(NamespaceId id) const noexcept;
  /// As a node names it: known from now on, if only by its id. kNoSpace at the bound.
  SpaceIndex find_or_add(NamespaceId id);

  /// The era after `era`, or, if that ended before, the present one.
  [[nodiscard]] Result<Era> era_after(SpaceIndex space, Era era) const;
  /// Once it is kept for later terms. False if it has begun before.
  bool begin_era(SpaceIndex space, Era era);

  [[nodiscard]] const Space& operator[](SpaceIndex space) const noexcept { return spaces_[space]; }
  [[nodiscard]] std::size_t count() const noexcept { return spaces_.size(); }

 private:
  Eras eras_;
  ReplicaRule standard_;
  std::vector<Space> spaces_;
  std::unordered_map<NamespaceId, SpaceIndex> by_id_;
};

}  // namespace membrain
